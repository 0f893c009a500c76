//! The schemas of results: made from the types that write them, kept in the repository for whoever reads results elsewhere.

use super::sample;
use crate::cps::report::Report;
use schemars::JsonSchema;
use serde_json::Value;
use std::path::Path;

/// The schema of `T` is the one in bench/schema; with SYNFIN_WRITE_DOCS it is written there.
pub(crate) fn is_kept<T: JsonSchema>(name: &str) {
    let schema = serde_json::to_string_pretty(&schemars::schema_for!(T)).expect("serializes") + "\n";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("bench/schema").join(name);
    if std::env::var_os("SYNFIN_WRITE_DOCS").is_some() {
        std::fs::write(&path, &schema).expect("writes");
    }
    let kept = std::fs::read_to_string(&path).expect("the schema is there");
    assert!(
        kept == schema,
        "bench/schema/{name} is not of these types: run SYNFIN_WRITE_DOCS=1 cargo test --features bench schema"
    );
}

/// What the schema says against a result.
pub(crate) fn faults(schema: &str, result: &Value) -> Vec<String> {
    let validator = jsonschema::validator_for(&parsed(schema)).expect("the schema is one");
    validator.iter_errors(result).map(|error| format!("{}: {error}", error.instance_path())).collect()
}

#[test]
fn schema_in_the_repository_is_that_of_the_types() {
    is_kept::<Report>("cps.json");
}

#[test]
fn results_have_their_schema() {
    let measured = include_str!("../../tests/fixtures/report/measured.json");
    for (name, result) in [("measured", measured), ("full", sample::FULL), ("plain", sample::PLAIN)] {
        assert_eq!(faults(CPS, &parsed(result)), Vec::<String>::new(), "{name}");
    }
}

#[test]
fn what_is_no_result_is_refused_by_the_schema() {
    let mut result = parsed(sample::FULL);
    result["stacks"]["synfin"]["connections_per_second"] = Value::from("fast");
    result["verdict"]["limited_by"] = Value::from("luck");
    assert_eq!(faults(CPS, &result).len(), 2, "{:?}", faults(CPS, &result));
    result.as_object_mut().expect("an object").remove("machine");
    assert!(faults(CPS, &result).iter().any(|fault| fault.contains("machine")));
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

const CPS: &str = include_str!("../schema/cps.json");
