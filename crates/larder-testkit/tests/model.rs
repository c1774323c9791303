//! The model of the freshness protocol: the whole protocol holds in every scenario, every mutation of it is caught, and
//! the search itself can see.

use larder_testkit::model::{
    Bounds, ModelConfig, Mutation, Outcome, Plan, Promise, ROWS, Scenario, Size, What, broken_by, check, replay, scenarios, search,
    story_of,
};

fn quick(name: &str) -> Scenario {
    scenarios(Size::Quick).into_iter().find(|scenario| scenario.name() == name).expect("the test names a scenario that exists")
}

fn holds(name: &str) {
    let scenario = quick(name);
    let outcome = check(&scenario, None, Bounds::default());
    if let Some(violation) = &outcome.violation {
        panic!("{name}: the protocol breaks a promise:\n{}", story_of(&scenario, None, violation));
    }
    assert!(outcome.exhausted, "{name}: not searched to the end: {outcome:?}");
    assert!(outcome.states > 1_000 && outcome.depth > 10, "{name}: nearly nothing can happen in it: {outcome:?}");
}

fn searched(scenario: Scenario, mutation: Mutation, promises: &[Promise]) -> Outcome {
    let config = ModelConfig { scenario, mutation: Some(mutation), promises: promises.to_vec() };
    search(&config, Bounds::default())
}

/// The mutation is caught, after as many steps and by the promise that its row says; and the trace can be taken again.
fn caught(mutation: Mutation) {
    let row = mutation.row();
    let scenario = broken_by(mutation);
    let outcome = check(&scenario, Some(mutation), Bounds::default());
    let violation = outcome.violation.unwrap_or_else(|| panic!("{}: not caught in {} states", row.name, outcome.states));
    let story = story_of(&scenario, Some(mutation), &violation);
    assert_eq!((violation.steps.len(), violation.broken.promise), (usize::from(row.shortest.0), row.shortest.1), "{story}");

    let config = ModelConfig::new(&scenario, Some(mutation));
    let (states, broken) = replay(&config, &violation.steps).expect("the trace can be taken again");
    assert_eq!(broken, Some(violation.broken), "it breaks the same promise in the same way");
    assert_eq!(states.len(), violation.steps.len() + 1);
    assert_eq!(story.lines().count(), violation.steps.len() + 1, "a sentence for each step, and the verdict:\n{story}");

    let answers = searched(scenario.clone(), mutation, &[Promise::G1, Promise::G2, Promise::G4]);
    let in_an_answer = answers.violation.map(|violation| violation.steps.len());
    assert_eq!(in_an_answer, row.in_an_answer.map(usize::from), "{}: in a read's answer", row.name);

    let within = Bounds { depth_max: violation.steps.len(), ..Bounds::default() };
    let whole = check(&scenario, None, within);
    assert_eq!(whole.violation, None, "{}: as many steps of the whole protocol break nothing", row.name);
}

macro_rules! scenarios_that_hold {
    ($($test:ident: $name:literal,)*) => {
        $(#[test] fn $test() { holds($name); })*

        #[test]
        fn every_scenario_has_its_test() {
            let tested = [$($name),*];
            for size in [Size::Quick, Size::Large] {
                let names: Vec<_> = scenarios(size).iter().map(|scenario| scenario.name()).collect();
                assert_eq!(names, tested, "{size:?}");
            }
        }
    };
}

scenarios_that_hold! {
    holds_with_joiners: "joiners",
    holds_with_an_update: "update",
    holds_with_two_updates: "update-update",
    holds_with_a_key_an_update_and_a_crash: "key-update-crash",
    holds_with_a_tag_an_update_and_a_crash: "tag-update-crash",
    holds_with_two_puts: "put-put",
    holds_with_two_keys: "two-keys",
    holds_with_two_keys_under_one_tag: "shared-tag",
    holds_with_three_instances: "three-instances",
    holds_with_an_index_that_forgets: "forgetting",
    holds_with_a_tail_that_falls_behind: "fall-behind",
    holds_with_reads_at_a_position: "at-least",
    holds_with_a_failover: "failover",
    holds_with_a_failover_and_a_crash: "failover-crash",
    holds_with_two_failovers: "two-failovers",
}

macro_rules! mutations_that_are_caught {
    ($($test:ident: $mutation:ident,)*) => {
        $(#[test] fn $test() { caught(Mutation::$mutation); })*

        #[test]
        fn every_mutation_has_its_test() {
            let tested = [$(Mutation::$mutation),*];
            let rows: Vec<_> = ROWS.iter().map(|row| row.mutation).collect();
            assert_eq!(rows, tested);
        }
    };
}

mutations_that_are_caught! {
    catches_a_stamp_taken_after_the_source: StampAfterSource,
    catches_joiners_that_do_not_check: JoinersUnchecked,
    catches_own_appends_that_wait_for_the_tail: OwnAppendsNotIndexed,
    catches_a_restamp_to_latest: RestampToLatest,
    catches_a_restamp_measured_after_the_check: RestampAppliedAfterCheck,
    catches_applied_raised_before_the_index: AppliedBeforeIndex,
    catches_an_update_that_does_not_ask: UpdateUnchecked,
    catches_an_update_marked_after_its_change: UpdateMarkAfterChange,
    catches_an_index_that_forgets_without_a_floor: IndexForgets,
    catches_positions_used_again: PositionsReused,
    catches_a_late_detector_that_keeps_its_epoch: LateDetectorKeepsEpoch,
    catches_a_pair_below_the_floor: PairBelowFloor,
    catches_a_receipt_that_outlives_its_epoch: ReceiptOutlivesEpoch,
    catches_a_mark_that_outlives_its_epoch: MarkOutlivesEpoch,
    catches_a_restamp_of_another_entry: RestampWhateverIsThere,
    catches_a_tier_mark_taken_after_the_check: TierMarkAfterCheck,
    catches_joiners_that_ask_for_the_last_position_only: JoinersAskLastOnly,
    catches_a_bare_put: BarePut,
    catches_an_update_that_asks_its_own_index: UpdateAsksOwnIndex,
    catches_a_starter_that_trusts_the_log: StarterTrustsTheLog,
    catches_a_read_at_a_position_that_does_not_wait: AtLeastIgnored,
    catches_a_read_at_a_position_that_asks_the_tier: AtLeastSkipsMemoryOnly,
    catches_a_memory_hit_without_a_check: MemoryUnchecked,
}

#[test]
fn the_table_in_the_docs_says_what_the_rows_say() {
    let docs = include_str!("../src/model.rs");
    let number = |steps: Option<u8>| steps.map_or("-".to_owned(), |steps| steps.to_string());
    for row in &ROWS {
        let (shortest, promise) = row.shortest;
        let (designed, answer) = (number(row.designed), number(row.in_an_answer));
        let line = format!("//! | {} | {designed} | {shortest} | {promise} | {answer} |", row.taken_away);
        assert!(docs.lines().any(|found| found == line), "missing in model.rs:\n{line}");
    }
}

#[test]
fn each_promise_is_seen_broken_by_something() {
    for promise in Promise::ALL {
        assert!(ROWS.iter().any(|row| row.shortest.1 == promise), "nothing shows that {promise} is checked at all");
    }
}

#[test]
fn exchanging_instances_hides_nothing() {
    let plan = [Plan::times(2, What::Read(0)), Plan::once(What::Update(0))];
    let folded = Scenario::new("folded", &plan).instances(2);
    let unfolded = folded.clone().told_apart();
    let (few, many) = (check(&folded, None, Bounds::default()), check(&unfolded, None, Bounds::default()));
    assert!(few.exhausted && many.exhausted);
    assert_eq!((few.violation, many.violation), (None, None));
    assert_eq!(few.depth, many.depth, "every mirror image is as far from the start as its original");
    assert!(many.states > few.states && many.states <= 2 * few.states, "{} against {}", few.states, many.states);

    let mutation = Mutation::AppliedBeforeIndex;
    let found = check(&broken_by(mutation).told_apart(), Some(mutation), Bounds::default());
    assert_eq!(found.violation.map(|violation| violation.steps.len()), Some(usize::from(mutation.row().shortest.0)));
}

#[test]
fn a_search_that_is_cut_short_says_so() {
    let scenario = quick("update-update");
    for bounds in [Bounds { states_max: 500, ..Bounds::default() }, Bounds { depth_max: 5, ..Bounds::default() }] {
        let outcome = check(&scenario, None, bounds);
        assert!(!outcome.exhausted, "{bounds:?}: {outcome:?}");
        assert_eq!(outcome.violation, None);
    }
}

#[test]
fn a_violation_deeper_than_the_bound_is_not_found() {
    let mutation = Mutation::MemoryUnchecked;
    let depth = usize::from(mutation.row().shortest.0);
    let at = |depth_max| check(&broken_by(mutation), Some(mutation), Bounds { depth_max, ..Bounds::default() });
    assert!(at(depth).violation.is_some());
    let short = at(depth - 1);
    assert_eq!((short.violation, short.exhausted), (None, false), "breadth first: nothing shorter was passed over");
}

#[test]
fn a_trace_leads_nowhere_without_its_mutation() {
    let mutation = Mutation::StampAfterSource;
    let scenario = broken_by(mutation);
    let violation = check(&scenario, Some(mutation), Bounds::default()).violation.expect("a test of its own holds this");
    let sound = replay(&ModelConfig::new(&scenario, None), &violation.steps);
    assert_eq!(sound.map(|(_, broken)| broken), Ok(None), "the same steps break nothing under the whole protocol");
}
