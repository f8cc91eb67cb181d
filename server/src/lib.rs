//! One function, `handle(request) -> response`, behind two fronts.
