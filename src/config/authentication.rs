//! `authenticators`, `plans`, `consumers` and `stores` as written: one item at a time.

use super::later::{self, Part};
use super::section::{Section, without_later};
use super::tree::Node;
use crate::base::problem::{Place, Problem, Problems};
use crate::policy::auth::{AuthenticatorSpec, ConsumerSpec, UsagePlanSpec};
use crate::store::StoreSpec;

/// One of `authenticators`: a map of one key, which says its kind.
pub(super) fn authenticator(
    written: &Node,
    place: &Place,
    problems: &mut Problems,
) -> Option<AuthenticatorSpec> {
    let node = without_later(written, place, Part::Authenticator, &[], problems);
    let later = node.entries().len() < written.entries().len();
    if later {
        return None;
    }
    if node.entries().len() > 1 {
        let problem = Problem::error("E060", place.clone(), "an authenticator of two kinds");
        problems.push(
            problem
                .hint("make two of it, and name both in `auth`")
                .at_key(),
        );
        return None;
    }
    super::decode::decode_beside(&node, place, later::keys(Part::Authenticator), problems)
}

/// One of `stores`: a map of one key, which says its kind.
pub(super) fn store(written: &Node, place: &Place, problems: &mut Problems) -> Option<StoreSpec> {
    let node = without_later(written, place, Part::Store, &[], problems);
    if node.entries().len() < written.entries().len() {
        return None;
    }
    if node.entries().len() > 1 {
        let problem = Problem::error("E012", place.clone(), "a store of two kinds");
        problems.push(problem.hint("make two of it").at_key());
        return None;
    }
    super::decode::decode_beside(&node, place, later::keys(Part::Store), problems)
}

/// One of `plans`.
pub(super) fn usage_plan(
    node: &Node,
    place: &Place,
    problems: &mut Problems,
) -> Option<UsagePlanSpec> {
    Section::new(node, place.clone(), Part::UsagePlan, problems).rest(&[])
}

/// One of `consumers`.
pub(super) fn consumer(
    node: &Node,
    place: &Place,
    problems: &mut Problems,
) -> Option<ConsumerSpec> {
    Section::new(node, place.clone(), Part::Consumer, problems).rest(&[])
}
