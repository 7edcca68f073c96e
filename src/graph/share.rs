//! Tensors that no program needs at the same time in one storage.

use std::collections::HashMap;

use super::{GRADIENTS, Graph, StorageSpec, Tensor};
use crate::ops::Operation;

impl Graph {
    /// Lets tensors lie in one storage where no program needs them at the same time. To be called when all programs are finished.
    ///
    /// A tensor that operations write keeps its values until the last operation of the program that reads it, no longer, but for those in
    /// `kept`, which the host can read as ever. Tensors that a program reads before it writes them keep their values from run to run.
    pub fn share_storages(&mut self, kept: &[Tensor]) {
        let mut can_share = vec![false; self.storages.len()];
        for (_, spec) in self.computed() {
            can_share[spec.storage] = true;
        }
        can_share[GRADIENTS] = false;
        for &tensor in kept {
            can_share[self.spec(tensor).storage] = false;
        }
        let mut uses = vec![Vec::new(); self.storages.len()];
        for (program, (_, ops)) in self.programs.iter().enumerate() {
            let mut spans: HashMap<usize, Use> = HashMap::new();
            for (position, op) in ops.iter().enumerate() {
                for storage in op.inputs().into_iter().map(|tensor| self.spec(tensor).storage) {
                    can_share[storage] &= spans.contains_key(&storage);
                }
                for storage in op.inputs().into_iter().chain(op.outputs()).map(|tensor| self.spec(tensor).storage) {
                    spans.entry(storage).or_insert(Use { program, first: position, last: position }).last = position;
                }
            }
            for (storage, span) in spans {
                uses[storage].push(span);
            }
        }
        let (mut sharing, alone): (Vec<usize>, Vec<usize>) = (0..self.storages.len()).partition(|&storage| can_share[storage]);
        sharing.sort_by_key(|&storage| std::cmp::Reverse(self.storages[storage].len));
        let mut storages: Vec<(StorageSpec, Vec<Use>)> = Vec::new();
        let mut places = vec![0; self.storages.len()];
        for (place, &storage) in alone.iter().enumerate() {
            places[storage] = place;
        }
        for storage in sharing {
            let is_free = |(_, others): &(_, Vec<Use>)| !uses[storage].iter().any(|span| others.iter().any(|other| span.meets(other)));
            let place = storages.iter().position(is_free).unwrap_or_else(|| {
                storages.push((self.storages[storage].clone(), Vec::new()));
                storages.len() - 1
            });
            storages[place].1.extend_from_slice(&uses[storage]);
            places[storage] = alone.len() + place;
        }
        self.storages =
            alone.iter().map(|&storage| self.storages[storage].clone()).chain(storages.into_iter().map(|(spec, _)| spec)).collect();
        for spec in &mut self.tensors {
            spec.storage = places[spec.storage];
        }
    }
}

/// From the first to the last operation of a program that needs a storage.
#[derive(Clone, Copy, Debug)]
struct Use {
    program: usize,
    first: usize,
    last: usize,
}

impl Use {
    fn meets(&self, other: &Use) -> bool {
        self.program == other.program && self.first <= other.last && other.first <= self.last
    }
}
