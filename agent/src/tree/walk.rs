//! Walks through folders: which of them are entered, and by whom.

use std::panic::resume_unwind;
use std::path::Path;
use std::thread;

use specs::upgrade::{Classifier, Rules, TreePath};

use super::TreeError;
use super::look::{Content, Found, Reader};
use super::parallel::{Queue, processors};

/// Says of a path, which is a folder or not, whether it counts, and whether to go into it.
pub(super) type Wanted<'a> =
    dyn Fn(&mut Classifier<'_>, &TreePath, bool) -> (bool, bool) + Sync + 'a;

/// Everything below folders of a tree that counts, in the order of paths, looked at by all
/// processors; `None` is the top.
pub(super) fn walk(
    root: &Path,
    folders: Vec<Option<TreePath>>,
    rules: &Rules,
    wanted: &Wanted<'_>,
    content: Content<'_>,
) -> Result<Vec<(TreePath, Found)>, TreeError> {
    let queue = Queue::new(folders);
    let work = || -> Result<Vec<(TreePath, Found)>, TreeError> {
        let mut classifier = rules.classifier();
        let mut reader = Reader::new(root, content);
        let mut mine = Vec::new();
        while let Some((folder, _turn)) = queue.take() {
            let mut folders = Vec::new();
            let read = reader.read(folder.as_ref(), &mut |path, is_folder| {
                let (counts, enter) = wanted(&mut classifier, path, is_folder);
                if enter && is_folder {
                    folders.push(Some(path.clone()));
                }
                counts
            });
            mine.extend(read.inspect_err(|_| queue.give_up())?);
            queue.push(folders);
        }
        mine.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        Ok(mine)
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..processors()).map(|_| scope.spawn(work)).collect();
        let mut all = Vec::new();
        for worker in workers {
            let found = worker.join().unwrap_or_else(|panic| resume_unwind(panic));
            all.extend(found?);
        }
        // The stable sort sees that these are a few rows in order, and only merges them.
        all.sort_by(|(a, _), (b, _)| a.cmp(b));
        Ok(all)
    })
}
