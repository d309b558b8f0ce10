//! What there is only so much of, and how much of it one owner may have: whoever takes much leaves something to others.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use zhenjin_store::Owner;

/// How much of something one owner may have at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shares {
    all: usize,
    part: usize,
    /// Whether everybody has a key, and so an owner of their own.
    knows_owners: bool,
}

impl Shares {
    /// At most `part` of `all` for each owner. Where no key is asked for, everybody is one owner, who may have all.
    pub(crate) fn new(all: usize, part: usize, knows_owners: bool) -> Shares {
        Shares { all, part, knows_owners }
    }

    /// At most three quarters of `all` for each owner: what is left lets others in. Of less than four, one owner may have all.
    pub(crate) fn three_quarters(all: usize, knows_owners: bool) -> Shares {
        Shares::new(all, all - all / 4, knows_owners)
    }

    /// What all owners may have together.
    pub(crate) fn all(self) -> usize {
        self.all
    }

    /// What this owner may have.
    pub(crate) fn of(self, owner: &Owner) -> usize {
        match owner {
            Owner::Local if !self.knows_owners => self.all,
            Owner::Local | Owner::Key(_) => self.part,
        }
    }
}

/// An amount of something, from which owners take portions. Nobody waits for one: what is not there is refused.
pub(crate) struct Supply {
    shares: Shares,
    taken: Mutex<Taken>,
}

/// What is taken, by all together and by each owner that has some.
#[derive(Default)]
struct Taken {
    all: usize,
    of_owners: BTreeMap<Owner, usize>,
}

/// Why there is no portion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shortage {
    /// All owners together would have more than so much, which is all.
    OfAll(usize),
    /// This owner has so much already, and would have more than its share.
    OfOwner(usize),
}

impl Supply {
    /// All of it, for owners with these shares.
    pub(crate) fn new(shares: Shares) -> Arc<Supply> {
        Arc::new(Supply { shares, taken: Mutex::default() })
    }

    /// Nothing yet, for this owner.
    pub(crate) fn nothing(self: &Arc<Self>, owner: &Owner) -> Portion {
        Portion { owner: owner.clone(), amount: 0, supply: Arc::clone(self) }
    }

    /// So much of it, for this owner.
    ///
    /// # Errors
    /// When there is not so much left, of all or of what this owner may have.
    pub(crate) fn take(self: &Arc<Self>, owner: &Owner, amount: usize) -> Result<Portion, Shortage> {
        let mut portion = self.nothing(owner);
        portion.grow_to(amount)?;
        Ok(portion)
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one owner took, until it is dropped.
pub(crate) struct Portion {
    owner: Owner,
    amount: usize,
    supply: Arc<Supply>,
}

impl Portion {
    /// Who took it.
    pub(crate) fn owner(&self) -> &Owner {
        &self.owner
    }

    /// The most that its owner may have.
    pub(crate) fn most(&self) -> usize {
        self.supply.shares.of(&self.owner)
    }

    /// Makes it at least so much.
    ///
    /// # Errors
    /// When there is not so much left, of all or of what this owner may have. The portion stays as it is then.
    pub(crate) fn grow_to(&mut self, amount: usize) -> Result<(), Shortage> {
        let Some(more) = amount.checked_sub(self.amount).filter(|&more| more > 0) else {
            return Ok(());
        };
        let shares = self.supply.shares;
        let mut taken = self.supply.taken();
        let own = taken.of_owners.get(&self.owner).copied().unwrap_or(0);
        let share = shares.of(&self.owner);
        if own.saturating_add(more) > share && share < shares.all() {
            return Err(Shortage::OfOwner(own));
        }
        if taken.all.saturating_add(more) > shares.all() {
            return Err(Shortage::OfAll(shares.all()));
        }
        taken.all += more;
        match taken.of_owners.get_mut(&self.owner) {
            Some(own) => *own += more,
            None => {
                taken.of_owners.insert(self.owner.clone(), more);
            }
        }
        drop(taken);
        self.amount = amount;
        Ok(())
    }

    /// Gives back what is beyond so much.
    pub(crate) fn shrink_to(&mut self, amount: usize) {
        let Some(less) = self.amount.checked_sub(amount).filter(|&less| less > 0) else { return };
        let mut taken = self.supply.taken();
        taken.all -= less;
        match taken.of_owners.get_mut(&self.owner) {
            Some(own) if *own > less => *own -= less,
            _ => {
                taken.of_owners.remove(&self.owner);
            }
        }
        drop(taken);
        self.amount = amount;
    }
}

impl Drop for Portion {
    fn drop(&mut self) {
        if self.amount == 0 {
            return;
        }
        let mut taken = self.supply.taken();
        taken.all = taken.all.saturating_sub(self.amount);
        match taken.of_owners.get_mut(&self.owner) {
            Some(own) if *own > self.amount => *own -= self.amount,
            _ => {
                taken.of_owners.remove(&self.owner);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANNA: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAA";
    const BEN: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAB";

    fn owner(id: &str) -> Owner {
        Owner::Key(id.parse().expect("an id"))
    }

    #[test]
    fn what_is_given_back_is_there_for_others() {
        let supply = Supply::new(Shares::three_quarters(100, true));
        let (anna, ben) = (owner(ANNA), owner(BEN));
        let mut most = supply.take(&anna, 75).expect("three quarters");
        most.shrink_to(80);
        assert_eq!(supply.take(&ben, 26).err(), Some(Shortage::OfAll(100)));
        most.shrink_to(10);
        let others = supply.take(&ben, 75).expect("all but ten and what is left to others");
        drop(supply.take(&anna, 15).expect("her share again"));
        most.shrink_to(0);
        drop((most, others));
        assert!(supply.taken().of_owners.is_empty());
        assert_eq!(supply.taken().all, 0);
    }

    #[test]
    fn one_owner_leaves_a_quarter_to_others() {
        let supply = Supply::new(Shares::three_quarters(100, true));
        let (anna, ben) = (owner(ANNA), owner(BEN));
        let most = supply.take(&anna, 75).expect("three quarters");
        assert_eq!(supply.take(&anna, 1).err(), Some(Shortage::OfOwner(75)));
        assert_eq!(supply.take(&ben, 26).err(), Some(Shortage::OfAll(100)));
        let rest = supply.take(&ben, 25).expect("what is left");
        assert_eq!(supply.take(&Owner::Local, 1).err(), Some(Shortage::OfAll(100)));
        drop(most);
        assert_eq!(supply.take(&ben, 51).err(), Some(Shortage::OfOwner(25)));
        drop(rest);
        assert!(supply.taken().of_owners.is_empty(), "who has nothing is forgotten");
        assert_eq!(supply.taken().all, 0);
    }

    #[test]
    fn where_no_key_is_asked_for_everybody_may_have_all() {
        let supply = Supply::new(Shares::three_quarters(8, false));
        let all = supply.take(&Owner::Local, 8).expect("all");
        assert_eq!(supply.take(&Owner::Local, 1).err(), Some(Shortage::OfAll(8)));
        drop(all);
        assert_eq!(supply.take(&owner(ANNA), 7).err(), Some(Shortage::OfOwner(0)));
    }

    /// Two that together want more than there is do not wait for one another: the one that comes too late is refused, and the other grows.
    #[test]
    fn what_is_refused_keeps_what_it_has_until_it_is_dropped() {
        let supply = Supply::new(Shares::new(10, 10, true));
        let (anna, ben) = (owner(ANNA), owner(BEN));
        let mut first = supply.take(&anna, 6).expect("enough");
        let mut second = supply.take(&ben, 4).expect("enough");
        assert_eq!(second.grow_to(8).err(), Some(Shortage::OfAll(10)));
        second.grow_to(3).expect("it has more");
        assert_eq!(first.grow_to(10).err(), Some(Shortage::OfAll(10)));
        drop(second);
        first.grow_to(10).expect("the other has gone");
        assert_eq!(first.owner(), &anna);
        drop(first);
        assert!(supply.take(&ben, 10).is_ok());
    }
}
