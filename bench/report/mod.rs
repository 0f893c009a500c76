//! `synfin-bench report`: from a result in JSON to a page, a table in Markdown, CSV, a log of latencies, and conditions.

pub(crate) mod claims;
mod escape;
mod formats;
mod number;
mod over_time;
pub(crate) mod page;
mod pictures;
mod risk_section;
#[cfg(test)]
pub(crate) mod sample;
mod scale;
#[cfg(test)]
pub(crate) mod schema;
mod svg;
mod table;
mod timeline;

use crate::compare::condition::Condition;
use crate::cps::report::Report;
use crate::failure::Failure;
use crate::output;
use crate::risk::simulated;
use clap::Args;
use std::fs;
use std::path::{Path, PathBuf};

/// Options of `synfin-bench report`.
#[derive(Args, Clone, Debug)]
pub(crate) struct ReportArgs {
    /// A result that `cps --json` or `risk --json` has written
    #[arg(value_name = "RESULT.json")]
    result: PathBuf,
    /// Write the page to FILE
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    outputs: Outputs,
}

/// What else may be made of a result; `cps` has the same options.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Outputs {
    /// Write every figure to FILE, one a row
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// Write the connect latencies of each stack to FILE, as a log of HdrHistogram
    #[arg(long, value_name = "FILE")]
    hlog: Option<PathBuf>,
    /// Write the tables to FILE in Markdown
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// End with exit code 4 if EXPR holds, such as synfin/limit<0.7 or errors>0; may be given again
    #[arg(long, value_name = "EXPR")]
    fail_if: Vec<Condition>,
}

/// Reads the result, writes what was asked for and judges it.
pub(crate) fn run(args: &ReportArgs) -> Result<(), Failure> {
    args.outputs.check()?;
    let (report, raw) = read(&args.result)?;
    if let Some(path) = &args.out {
        output::write("--out", path, page::page(&report, &raw).as_bytes())?;
    }
    args.outputs.write(&report)?;
    args.outputs.judge(&report)
}

/// The result in the file, and its text.
pub(crate) fn read(path: &Path) -> Result<(Report, String), Failure> {
    let name = path.display();
    let raw = fs::read_to_string(path)
        .map_err(|error| Failure::usage(format!("{name}: {error}; name a file that cps --json has written")))?;
    let report = serde_json::from_str(&raw).or_else(|error| {
        let from_risk = simulated::from_risk(&raw);
        from_risk.ok_or_else(|| Failure::usage(format!("{name}: {error}; this is no result of cps --json")))
    });
    Ok((report?, raw))
}

impl Outputs {
    /// Whether nothing was asked for.
    pub(crate) fn are_none(&self) -> bool {
        self.files().is_empty() && self.fail_if.is_empty()
    }

    /// Whether every file can be written, told before the run.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        self.files().into_iter().try_for_each(|(option, path)| output::check(option, path))
    }

    /// Writes the files.
    pub(crate) fn write(&self, report: &Report) -> Result<(), Failure> {
        for (option, path) in self.files() {
            let contents = match option {
                "--csv" => formats::csv(report).into_bytes(),
                "--markdown" => formats::markdown(report).into_bytes(),
                _ => formats::hlog(report)
                    .map_err(|error| Failure::failed(format!("{option} {}: {error}", path.display())))?,
            };
            output::write(option, path, &contents)?;
        }
        Ok(())
    }

    /// Whether the result meets a condition under which it fails.
    pub(crate) fn judge(&self, report: &Report) -> Result<(), Failure> {
        let result = report.to_be_judged().map_err(|error| Failure::failed(format!("--fail-if: {error}")))?;
        let met = self.fail_if.iter().find_map(|condition| condition.met(&result));
        met.map_or(Ok(()), |reason| Err(Failure::condition(reason)))
    }

    fn files(&self) -> Vec<(&'static str, &Path)> {
        let named = [("--csv", &self.csv), ("--hlog", &self.hlog), ("--markdown", &self.markdown)];
        named.into_iter().filter_map(|(option, path)| path.as_deref().map(|path| (option, path))).collect()
    }
}
