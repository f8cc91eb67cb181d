//! The complete search: prune, branch on what is most constrained, remember dead ends.
//!
//! A state is, per line, the set of facts it may still take. Pruning removes facts that cannot
//! be part of any assignment: values of a variable that another of its lines does not offer, and
//! facts that a line needs for itself; and it fails when the lines cannot all have different
//! facts (a bipartite matching). What remains of a list after pruning is a function of these sets
//! alone, so a set of sets that failed once is never searched again, whichever way it was reached.
//!
//! The search finds *some* assignment. The *first* one is made from it line by line: a fact
//! earlier in the list is taken if an assignment with it exists.

use std::collections::{BTreeMap, BTreeSet};

use super::NoMatch;
use super::problem::Problem;

/// Work that may still be done, in candidates looked at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Budget {
    left: u64,
}

impl Budget {
    pub(crate) fn new(steps: u64) -> Budget {
        Budget { left: steps }
    }

    fn spend(&mut self, steps: usize) -> Result<(), NoMatch> {
        self.left = self.left.checked_sub(steps as u64).ok_or(NoMatch::BudgetExhausted)?;
        Ok(())
    }
}

/// Dead ends are remembered up to so many words of 64 bits, 64 MiB in all.
const MEMO_WORDS: usize = 8 << 20;

/// Per line a bit set over its table, one after the other.
type State = Vec<u64>;

#[derive(Debug)]
pub(crate) struct Search<'p> {
    problem: &'p Problem<'p>,
    /// The lines that take part, in list order.
    lines: Vec<usize>,
    /// Where the bits of each of them begin, and where the last ones end.
    offsets: Vec<usize>,
    /// For each variable in more than one line: those lines, and which of their variables it is.
    shared: Vec<Vec<(usize, usize)>>,
    /// How often each line was the one that failed: such lines are decided early.
    failures: Vec<usize>,
    dead_ends: BTreeSet<State>,
    pub(crate) budget: Budget,
    scratch: Scratch,
}

/// Reused between prunings.
#[derive(Debug)]
struct Scratch {
    /// Per text: the last line of a variable that offered it, counted up for ever.
    offered: Vec<u64>,
    stamp: u64,
    /// Per fact: the line that takes it in the bipartite matching.
    taken_by: Vec<usize>,
    visited: Vec<u64>,
}

const NOBODY: usize = usize::MAX;

impl<'p> Search<'p> {
    /// A search over some lines of a problem.
    pub(crate) fn new(problem: &'p Problem<'p>, lines: Vec<usize>, budget: Budget) -> Search<'p> {
        let mut offsets = vec![0];
        let mut by_variable = vec![Vec::new(); problem.variable_count()];
        for (position, &line) in lines.iter().enumerate() {
            let table = &problem.lines[line];
            offsets.push(offsets[position] + table.facts.len().div_ceil(64));
            for (place, (variable, _)) in table.variables.iter().enumerate() {
                by_variable[*variable].push((position, place));
            }
        }
        Search {
            problem,
            failures: vec![1; lines.len()],
            shared: by_variable.into_iter().filter(|places| places.len() > 1).collect(),
            lines,
            offsets,
            dead_ends: BTreeSet::new(),
            budget,
            scratch: Scratch {
                offered: vec![0; problem.text_count()],
                stamp: 0,
                taken_by: vec![NOBODY; problem.fact_count()],
                visited: vec![0; problem.fact_count()],
            },
        }
    }

    /// The first assignment in list order: the fact of each line.
    pub(crate) fn first(&mut self) -> Result<Vec<usize>, NoMatch> {
        let mut state = self.full();
        if !self.prune(&mut state)? || !self.groups_hold(&state)? {
            return Err(NoMatch::Unsatisfied);
        }
        let Some(mut witness) = self.solve(state.clone())? else {
            return Err(NoMatch::Unsatisfied);
        };
        for position in 0..self.lines.len() {
            for row in self.rows(&state, position) {
                let mut fixed = self.fixed(&state, position, row);
                let known = row == witness[position];
                if !self.prune(&mut fixed)? {
                    continue;
                }
                if !known {
                    match self.solve(fixed.clone())? {
                        Some(better) => witness = better,
                        None => continue,
                    }
                }
                state = fixed;
                break;
            }
        }
        Ok(self.facts_of(&witness))
    }

    /// Whether any assignment exists.
    pub(crate) fn exists(&mut self) -> Result<bool, NoMatch> {
        let mut state = self.full();
        Ok(self.prune(&mut state)? && self.groups_hold(&state)? && self.solve(state)?.is_some())
    }

    fn facts_of(&self, rows: &[usize]) -> Vec<usize> {
        let fact = |(&line, &row): (&usize, &usize)| self.problem.lines[line].facts[row] as usize;
        self.lines.iter().zip(rows).map(fact).collect()
    }

    fn full(&self) -> State {
        let mut state = vec![0; *self.offsets.last().unwrap_or(&0)];
        for (position, &line) in self.lines.iter().enumerate() {
            for row in 0..self.problem.lines[line].facts.len() {
                state[self.offsets[position] + row / 64] |= 1 << (row % 64);
            }
        }
        state
    }

    /// The rows that a line may still take, in order.
    fn rows(&self, state: &State, position: usize) -> Vec<usize> {
        let words = &state[self.offsets[position]..self.offsets[position + 1]];
        let mut rows = Vec::new();
        for (word_number, &word) in words.iter().enumerate() {
            let mut rest = word;
            while rest != 0 {
                rows.push(word_number * 64 + rest.trailing_zeros() as usize);
                rest &= rest - 1;
            }
        }
        rows
    }

    fn count(&self, state: &State, position: usize) -> usize {
        let words = &state[self.offsets[position]..self.offsets[position + 1]];
        words.iter().map(|word| word.count_ones() as usize).sum()
    }

    fn fixed(&self, state: &State, position: usize, row: usize) -> State {
        let mut fixed = state.clone();
        fixed[self.offsets[position]..self.offsets[position + 1]].fill(0);
        fixed[self.offsets[position] + row / 64] = 1 << (row % 64);
        fixed
    }

    /// Lines that share no variable compete for facts only. Each such group must have an
    /// assignment of its own: a group that has none is not searched again for every
    /// assignment of the others.
    fn groups_hold(&mut self, state: &State) -> Result<bool, NoMatch> {
        let groups = self.groups();
        if groups.len() < 2 {
            return Ok(true);
        }
        for group in groups.into_iter().filter(|group| group.len() > 1) {
            if group.iter().all(|&position| self.count(state, position) == 1) {
                continue;
            }
            let lines = group.iter().map(|&position| self.lines[position]).collect();
            let mut search = Search::new(self.problem, lines, self.budget);
            let mut part = search.full();
            let holds = search.prune(&mut part)? && search.solve(part)?.is_some();
            self.budget = search.budget;
            if !holds {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The positions of lines that are joined by variables, directly or through others.
    fn groups(&self) -> Vec<Vec<usize>> {
        let mut group_of: Vec<usize> = (0..self.lines.len()).collect();
        for places in &self.shared {
            let target = group_of[places[0].0];
            for &(position, _) in &places[1..] {
                let old = group_of[position];
                group_of.iter_mut().filter(|group| **group == old).for_each(|g| *g = target);
            }
        }
        let mut groups: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (position, group) in group_of.into_iter().enumerate() {
            groups.entry(group).or_default().push(position);
        }
        groups.into_values().collect()
    }

    /// Some assignment within a pruned state: the row of each line.
    fn solve(&mut self, state: State) -> Result<Option<Vec<usize>>, NoMatch> {
        let open = (0..self.lines.len())
            .map(|position| (position, self.count(&state, position)))
            .filter(|(_, count)| *count > 1)
            // Fewest candidates per failure so far, compared without division.
            .min_by(|(a, count_a), (b, count_b)| {
                (count_a * self.failures[*b]).cmp(&(count_b * self.failures[*a]))
            });
        let Some((position, _)) = open else {
            let rows = (0..self.lines.len()).filter_map(|p| self.rows(&state, p).first().copied());
            return Ok(Some(rows.collect()));
        };
        if self.dead_ends.contains(&state) {
            return Ok(None);
        }
        for row in self.rows(&state, position) {
            let mut child = self.fixed(&state, position, row);
            if self.prune(&mut child)?
                && let Some(found) = self.solve(child)?
            {
                return Ok(Some(found));
            }
        }
        if (self.dead_ends.len() + 1) * state.len() <= MEMO_WORDS {
            self.dead_ends.insert(state);
        }
        Ok(None)
    }

    /// Removes what cannot be part of an assignment; `false` when nothing is left.
    fn prune(&mut self, state: &mut State) -> Result<bool, NoMatch> {
        loop {
            let mut changed = false;
            for variable in 0..self.shared.len() {
                match self.prune_variable(state, variable)? {
                    Some(removed) => changed |= removed,
                    None => return Ok(false),
                }
            }
            match self.prune_taken(state)? {
                Some(removed) => changed |= removed,
                None => return Ok(false),
            }
            if !changed {
                return self.all_different(state);
            }
        }
    }

    /// Keeps the values that every line of a variable offers. `None`: a line is left without.
    fn prune_variable(
        &mut self,
        state: &mut State,
        variable: usize,
    ) -> Result<Option<bool>, NoMatch> {
        let places = std::mem::take(&mut self.shared[variable]);
        let answer = self.prune_places(state, &places);
        self.shared[variable] = places;
        answer
    }

    fn prune_places(
        &mut self,
        state: &mut State,
        places: &[(usize, usize)],
    ) -> Result<Option<bool>, NoMatch> {
        // A text is offered by all lines so far when its mark is the stamp of the last one.
        let problem = self.problem;
        let values = |search: &Search<'p>, position: usize, place: usize| {
            &problem.lines[search.lines[position]].variables[place].1
        };
        let before = self.scratch.stamp;
        for (nth, &(position, place)) in (0_u64..).zip(places) {
            let rows = self.rows(state, position);
            self.budget.spend(rows.len() + 1)?;
            let column = values(self, position, place);
            for row in rows {
                let mark = &mut self.scratch.offered[column[row] as usize];
                if nth == 0 || *mark == before + nth {
                    *mark = before + nth + 1;
                }
            }
        }
        self.scratch.stamp = before + places.len() as u64;
        let mut changed = false;
        for &(position, place) in places {
            let column = values(self, position, place);
            let mut left = false;
            for row in self.rows(state, position) {
                if self.scratch.offered[column[row] as usize] == self.scratch.stamp {
                    left = true;
                } else {
                    state[self.offsets[position] + row / 64] &= !(1 << (row % 64));
                    changed = true;
                }
            }
            if !left {
                self.failures[position] += 1;
                return Ok(None);
            }
        }
        Ok(Some(changed))
    }

    /// Takes the only fact of a line away from the others. `None`: one is left without.
    fn prune_taken(&mut self, state: &mut State) -> Result<Option<bool>, NoMatch> {
        let mut changed = false;
        let mut queue: Vec<usize> =
            (0..self.lines.len()).filter(|&p| self.count(state, p) <= 1).collect();
        self.budget.spend(self.lines.len())?;
        while let Some(single) = queue.pop() {
            let Some(&row) = self.rows(state, single).first() else {
                self.failures[single] += 1;
                return Ok(None);
            };
            let fact = self.problem.lines[self.lines[single]].facts[row];
            self.budget.spend(self.lines.len())?;
            for other in (0..self.lines.len()).filter(|&other| other != single) {
                let facts = &self.problem.lines[self.lines[other]].facts;
                let Ok(row) = facts.binary_search(&fact) else { continue };
                let word = &mut state[self.offsets[other] + row / 64];
                if *word & (1 << (row % 64)) == 0 {
                    continue;
                }
                *word &= !(1 << (row % 64));
                changed = true;
                match self.count(state, other) {
                    0 => {
                        self.failures[other] += 1;
                        return Ok(None);
                    }
                    1 => queue.push(other),
                    _ => {}
                }
            }
        }
        Ok(Some(changed))
    }

    /// Whether the lines can all have different facts (augmenting paths).
    fn all_different(&mut self, state: &State) -> Result<bool, NoMatch> {
        self.scratch.taken_by.fill(NOBODY);
        for position in 0..self.lines.len() {
            self.scratch.stamp += 1;
            if !self.augment(state, position)? {
                self.failures[position] += 1;
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Gives the line a fact, moving other lines to other facts where needed.
    fn augment(&mut self, state: &State, position: usize) -> Result<bool, NoMatch> {
        let rows = self.rows(state, position);
        self.budget.spend(rows.len())?;
        let facts = &self.problem.lines[self.lines[position]].facts;
        for &row in &rows {
            let fact = facts[row] as usize;
            if self.scratch.taken_by[fact] == NOBODY {
                self.scratch.taken_by[fact] = position;
                return Ok(true);
            }
        }
        for &row in &rows {
            let fact = facts[row] as usize;
            if self.scratch.visited[fact] == self.scratch.stamp {
                continue;
            }
            self.scratch.visited[fact] = self.scratch.stamp;
            let holder = self.scratch.taken_by[fact];
            if self.augment(state, holder)? {
                self.scratch.taken_by[fact] = position;
                return Ok(true);
            }
        }
        Ok(false)
    }
}
