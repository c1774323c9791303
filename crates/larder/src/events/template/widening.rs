//! Whether what a template makes of an event reaches further than the event's values, or panics: templates and conditions that
//! are made up, events that are hostile, and a plain model of what may be reached. `PROPTEST_CASES` says how many.

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::json;

use super::*;
use crate::events::condition::Condition;
use crate::events::rule::Rule;
use crate::name::Name;
use crate::pattern::Pattern;

/// A piece of a segment of a template.
#[derive(Clone, Debug)]
enum Piece {
    /// Itself, whatever is in it.
    Text(String),
    /// Any text: written by the rule's author, and nobody else.
    Star,
    /// One of [`FIELDS`].
    Field(usize),
}

/// Fields, and where an event has them.
const FIELDS: [&str; 3] = ["a", "b.c", "@subject"];

/// A template, taken apart.
#[derive(Clone, Debug)]
struct Plan {
    target: Target,
    segments: Vec<Vec<Piece>>,
    open: bool,
}

impl Plan {
    /// As a rule's author writes it. What means something in a pattern has a backslash, and braces are doubled.
    fn text(&self) -> String {
        let word = match self.target {
            Target::Key => "key:",
            Target::Tag => "tag:",
            Target::Namespace => "namespace:",
            Target::Pattern | Target::Everything => "pattern:",
        };
        let piece = |piece: &Piece| match piece {
            Piece::Text(text) if self.target == Target::Pattern => {
                String::from_utf8(escape(text.as_bytes())).unwrap().replace('{', "{{").replace('}', "}}")
            }
            Piece::Text(text) => text.replace('{', "{{").replace('}', "}}"),
            Piece::Star => "*".to_owned(),
            Piece::Field(field) => format!("{{{}}}", FIELDS[*field]),
        };
        let segments: Vec<String> = self.segments.iter().map(|pieces| pieces.iter().map(piece).collect()).collect();
        format!("{word}{}{}", segments.join(":"), if self.open { ":**" } else { "" })
    }

    /// What somebody would make of it who puts values in as they are.
    fn naive(&self, values: &[&str; 3]) -> String {
        let text = self.text();
        let text = FIELDS.iter().zip(values).fold(text, |text, (field, value)| text.replace(&format!("{{{field}}}"), value));
        text.strip_prefix("pattern:").unwrap_or(&text).to_owned()
    }

    fn fields(&self) -> impl Iterator<Item = usize> {
        let all = self.segments.iter().flatten();
        all.filter_map(|piece| if let Piece::Field(field) = piece { Some(*field) } else { None })
    }

    /// Whether a key is one that these values mean: segment by segment, and byte by byte.
    fn may_reach(&self, values: &[&str; 3], key: &str) -> bool {
        let segments: Vec<&str> = key.split(':').collect();
        let fits = if self.open { segments.len() >= self.segments.len() } else { segments.len() == self.segments.len() };
        fits && self.segments.iter().zip(segments).all(|(pieces, segment)| {
            let tokens: Vec<Option<u8>> = pieces
                .iter()
                .flat_map(|piece| match piece {
                    Piece::Text(text) => text.bytes().map(Some).collect::<Vec<_>>(),
                    Piece::Field(field) => values[*field].bytes().map(Some).collect(),
                    Piece::Star => vec![None],
                })
                .collect();
            is_like(&tokens, segment.as_bytes())
        })
    }
}

/// Whether a text is made of these bytes, with anything in the place of a `None`: which beginnings of it can be read so far.
fn is_like(tokens: &[Option<u8>], text: &[u8]) -> bool {
    let mut reached = vec![false; text.len() + 1];
    reached[0] = true;
    for token in tokens {
        reached = match token {
            Some(byte) => (0..=text.len()).map(|at| at > 0 && reached[at - 1] && text[at - 1] == *byte).collect(),
            None => (0..=text.len()).map(|at| reached[..=at].contains(&true)).collect(),
        };
    }
    reached[text.len()]
}

/// What a value is in a name, if it may be in one.
fn in_a_name(value: &Json) -> Option<String> {
    let text = match value {
        Json::String(text) => text.clone(),
        Json::Number(number) => number.to_string(),
        Json::Bool(flag) => flag.to_string(),
        _ => return None,
    };
    ((1..=VALUE_LEN_MAX).contains(&text.len()) && !text.contains(':')).then_some(text)
}

/// All the values of a field, if every one of them may be in a name.
fn values_of(value: &Json) -> Option<Vec<String>> {
    match value {
        Json::Array(items) if items.is_empty() => None,
        Json::Array(items) => items.iter().map(in_a_name).collect(),
        one => in_a_name(one).map(|text| vec![text]),
    }
}

/// Texts of somebody who wants to reach more than his own.
fn hostile() -> impl Strategy<Value = String> {
    prop_oneof![
        5 => "[AB]{1,3}",
        4 => r"[AB*?\[\]\\{}!^-]{1,4}",
        1 => r"[AB:*]{1,4}",
        1 => any::<String>(),
        1 => r"[\x00-\x1f\x7f]{1,3}",
        1 => proptest::sample::select(vec!["", "*", "**", "[A-Z]", "[^x]", "\\", "\\*", "{a}", "{{", "\u{202e}\u{0}", "A*"]).prop_map(str::to_owned),
        1 => (500usize..520).prop_map(|len| "A".repeat(len)),
    ]
}

fn scalar() -> impl Strategy<Value = Json> {
    prop_oneof![
        8 => hostile().prop_map(Json::from),
        1 => any::<i64>().prop_map(Json::from),
        1 => any::<f64>().prop_map(|number| json!(number)),
        1 => any::<bool>().prop_map(Json::from),
        1 => Just(Json::Null),
        1 => hostile().prop_map(|text| json!({ "a": text, "c": [[]] })),
    ]
}

fn value() -> impl Strategy<Value = Json> {
    prop_oneof![4 => scalar(), 1 => proptest::collection::vec(scalar(), 0..4).prop_map(Json::from)]
}

fn event() -> impl Strategy<Value = Event> {
    let subject = proptest::option::of(hostile());
    (value(), value(), subject).prop_map(|(a, c, subject)| {
        let event = Event::new("t", json!({ "a": a, "b": { "c": c } }));
        subject.into_iter().fold(event, |event, subject| event.about(subject))
    })
}

fn plan() -> impl Strategy<Value = Plan> {
    let piece = prop_oneof![
        3 => r"[AB*?\[\]\\{}!^-]{1,2}".prop_map(Piece::Text),
        2 => Just(Piece::Star),
        6 => (0..FIELDS.len()).prop_map(Piece::Field),
    ];
    let segments = proptest::collection::vec(proptest::collection::vec(piece, 1..4), 1..4);
    let target = proptest::sample::select(vec![Target::Pattern, Target::Pattern, Target::Pattern, Target::Key, Target::Tag]);
    (target, segments, any::<bool>()).prop_map(|(target, mut segments, open)| {
        // Two of them are another thing, which the author may mean, too: everything behind.
        segments.iter_mut().for_each(|pieces| pieces.dedup_by(|one, other| matches!((one, other), (Piece::Star, Piece::Star))));
        if target != Target::Pattern {
            segments.iter_mut().for_each(|pieces| pieces.retain(|piece| !matches!(piece, Piece::Star)));
            segments.retain(|pieces| !pieces.is_empty());
        }
        if segments.is_empty() {
            segments.push(vec![Piece::Field(0)]);
        }
        Plan { target, segments, open: open && target == Target::Pattern }
    })
}

/// Keys near those that a plan means: with the values where they belong, or something like them.
fn keys_near(plan: &Plan, values: &[&str; 3], seed: u64) -> Vec<String> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut near = |text: &str| match rng.u8(..8) {
        0 => format!("{text}A"),
        1 => text.chars().skip(1).collect(),
        2 => text.replace(['*', '?', '\\', '[', ']', '^', '!', '-'], "A"),
        3 => "AB".to_owned(),
        _ => text.to_owned(),
    };
    let mut key = || {
        let mut segments: Vec<String> = Vec::new();
        for pieces in &plan.segments {
            let piece = |piece: &Piece| match piece {
                Piece::Text(text) => text.clone(),
                Piece::Field(field) => near(values[*field]),
                Piece::Star => near("*"),
            };
            segments.push(pieces.iter().map(piece).collect());
        }
        match near("").as_str() {
            "A" => segments.push("A".to_owned()),
            "AB" => drop(segments.pop()),
            _ => {}
        }
        segments.join(":")
    };
    (0..24).map(|_| key()).collect()
}

/// Whether a name is one of a key's, or a tag of this text.
fn reaches(name: &Name, target: Target, text: &str) -> bool {
    match name {
        Name::Key(key) => target == Target::Key && **key == *text.as_bytes(),
        Name::Tag(tag) => target == Target::Tag && **tag == *text.as_bytes(),
        Name::Pattern(pattern) => target == Target::Pattern && pattern.matches(text.as_bytes()),
        Name::Everything => true,
    }
}

/// Every choice of one value for each field.
fn choices(values: &[Vec<String>; 3]) -> Vec<[&str; 3]> {
    let [a, b, c] = values;
    a.iter().flat_map(|a| b.iter().flat_map(move |b| c.iter().map(move |c| [a.as_str(), b.as_str(), c.as_str()]))).collect()
}

/// What the event has for each field: `None` where it has nothing that may stand in a name, though the plan needs it.
fn values_for(plan: &Plan, event: &Event) -> Option<[Vec<String>; 3]> {
    let mut all: [Vec<String>; 3] = std::array::from_fn(|_| vec![String::new()]);
    for field in plan.fields() {
        all[field] = values_of(&Path::parse(FIELDS[field]).unwrap().of(event)?)?;
    }
    Some(all)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases.max(512)))]

    #[test]
    fn a_name_reaches_what_its_values_mean_and_nothing_else(plan in plan(), event in event(), seed: u64) {
        let Ok(template) = Template::parse(&plan.text()) else { return Ok(()) };
        let filled = template.fill(&event);
        let Some(values) = values_for(&plan, &event) else {
            prop_assert!(matches!(&filled, Err(error) if error.kind() == ErrorKind::InvalidEvent), "{:?}", plan);
            return Ok(());
        };
        // What is refused reaches nothing: a name can be too long as a whole.
        let Ok(Filled::Names(names)) = filled else { return Ok(()) };
        let names: Vec<Name> = names.into_iter().flat_map(|name| name.add_to(Names::new()).check().unwrap()).collect();
        let choices = choices(&values);
        prop_assert!(names.len() <= choices.len());
        for key in choices.iter().take(3).flat_map(|chosen| keys_near(&plan, chosen, seed)) {
            let reached = names.iter().any(|name| reaches(name, plan.target, &key));
            let meant = choices.iter().any(|chosen| plan.may_reach(chosen, &key));
            prop_assert_eq!(reached, meant, "{:?} of {} with {:?}: {:?}", names, plan.text(), choices, key);
        }
    }

    #[test]
    fn nothing_that_is_written_or_sent_makes_a_rule_panic(
        template in prop_oneof![r"[ab.@{}?*\[\]\\:^!-]{0,24}", ".{0,24}"],
        condition in condition(3),
        noise in prop_oneof![r#"[a-c@.&|!=<>()\[\]'"0-9 ein\\-]{0,32}"#, ".{0,32}"],
        event in event(),
    ) {
        let holds = |text: &str| Condition::parse(text).expect("the generator writes conditions").holds(&event);
        // The laws of logic, where it can be told at all; what cannot be told does not become true by being turned round.
        let turned = holds(&format!("!({condition})"));
        match holds(&condition) {
            Ok(told) => {
                prop_assert_eq!(turned.unwrap(), !told);
                prop_assert_eq!(holds(&format!("({condition}) && ({condition})")).unwrap(), told);
                prop_assert_eq!(holds(&format!("!({condition}) || ({condition})")).unwrap(), true);
            }
            Err(error) => {
                prop_assert_eq!(error.kind(), ErrorKind::InvalidEvent);
                prop_assert!(turned.is_err());
            }
        }
        let outcomes = [
            Condition::parse(&noise).map(|condition| condition.holds(&event).map(drop)),
            Template::parse(&template).map(|template| template.fill(&event).map(drop)),
        ];
        for outcome in outcomes {
            match outcome {
                Err(error) => prop_assert_eq!(error.kind(), ErrorKind::InvalidConfig),
                Ok(Err(error)) => prop_assert_eq!(error.kind(), ErrorKind::InvalidEvent),
                Ok(Ok(())) => {}
            }
        }
        if let Ok(rule) = Rule::new("t", [template]).and_then(|rule| rule.when(&condition)) {
            prop_assert_eq!(rule.kind(), "t");
        }
    }
}

/// Conditions as their authors write them, so deep at most.
fn condition(depth: u32) -> impl Strategy<Value = String> {
    let field = proptest::sample::select(FIELDS.to_vec()).prop_map(str::to_owned);
    let quoted = hostile()
        .prop_filter("a condition has a length", |text| text.len() < 16)
        .prop_map(|text| format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'")));
    let literal = prop_oneof![quoted, any::<i64>().prop_map(|number| number.to_string()), Just("true".to_owned())];
    let sign = proptest::sample::select(vec!["==", "!=", "<", "<=", ">", ">="]);
    let list = proptest::collection::vec(literal.clone(), 1..3).prop_map(|items| items.join(", "));
    let one = prop_oneof![
        (field.clone(), sign, literal).prop_map(|(field, sign, literal)| format!("{field} {sign} {literal}")),
        (field.clone(), list).prop_map(|(field, list)| format!("{field} in [{list}]")),
        field.clone().prop_map(|field| format!("has({field})")),
        field,
    ];
    one.prop_recursive(depth, 12, 2, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(one, other)| format!("({one}) && ({other})")),
            (inner.clone(), inner.clone()).prop_map(|(one, other)| format!("({one}) || ({other})")),
            inner.prop_map(|one| format!("!({one})")),
        ]
    })
    .prop_filter("a condition has a length", |text| text.len() < 400)
}

/// The model sees what it is for: values that are put into a pattern as they are reach further.
#[test]
fn a_rendering_that_does_not_escape_is_caught() {
    let mut runner = TestRunner::deterministic();
    let (mut widened, mut meant) = (0, 0);
    for seed in 0..400 {
        let plan = plan().new_tree(&mut runner).unwrap().current();
        let event = event().new_tree(&mut runner).unwrap().current();
        let Some(values) = values_for(&plan, &event) else { continue };
        let chosen = choices(&values)[0];
        let Ok(pattern) = Pattern::new(plan.naive(&chosen)) else { continue };
        if plan.target == Target::Pattern {
            let keys = keys_near(&plan, &chosen, seed);
            meant += keys.iter().filter(|key| plan.may_reach(&chosen, key)).count();
            widened += keys.iter().filter(|key| pattern.matches(key.as_bytes()) && !plan.may_reach(&chosen, key)).count();
        }
    }
    assert!(widened > 20, "only {widened} keys were reached that must not be");
    assert!(meant > 200, "only {meant} keys are such that a name must reach them");
}

/// Found when this test was written: the author's own backslash or bracket took hold of the value behind it.
#[test]
fn a_value_is_not_taken_into_the_syntax_around_it() {
    for bad in [r"features:\{a}:**", "features:[{a}]", "features:[^{a}x]", r"a:x[b\]{a}]"] {
        let error = Template::parse(bad).unwrap_err();
        assert!(error.kind() == ErrorKind::InvalidConfig && error.to_string().contains("{a}"), "{bad}: {error}");
    }
    for good in [r"features:\\{a}", r"features:\[{a}\]", "features:[xy]{a}", r"features:[\]]{a}", r"tag:\{a}", "key:[{a}]"] {
        assert!(Template::parse(good).is_ok(), "{good}");
    }
}
