//! The page that `synfin-bench report` writes, looked at in a real browser: Chromium without a window, at two widths,
//! light and dark.
//!
//! A script is put into a copy of the page; it measures what was laid out and says what is wrong. The page is shown in a frame of
//! the width wanted, because a window has a least width. With `SYNFIN_SCREENSHOTS=DIR` pictures of all of it are left in DIR.

use libtest_mimic::{Arguments, Failed, Trial};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    let trials = vec![
        browser_trial("page_with_every_part_is_sound", || looks_sound("full", &fixture("full"))),
        browser_trial("page_of_the_table_alone_is_sound", || looks_sound("plain", &fixture("plain"))),
        browser_trial("page_with_extreme_names_and_figures_is_sound", || looks_sound("extreme", &extreme())),
        browser_trial("page_without_headline_is_sound", || looks_sound("doubtful", &doubtful())),
        browser_trial("planted_defects_are_found", planted_defects_are_found),
    ];
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(1);
    libtest_mimic::run(&arguments, trials).exit();
}

/// A test that needs the browser: without it, it fails in continuous integration and is listed as ignored elsewhere.
fn browser_trial(name: &str, body: impl FnOnce() + Send + 'static) -> Trial {
    let missing = Command::new(BROWSER).arg("--version").output().is_err();
    let in_ci = std::env::var_os("CI").is_some();
    let body = move || -> Result<(), Failed> {
        if missing {
            return Err("chromium is not installed: run scripts/setup.sh".into());
        }
        body();
        Ok(())
    };
    Trial::test(name, body).with_ignored_flag(missing && !in_ci)
}

fn looks_sound(name: &str, result: &Value) {
    let work = Work::new(name);
    let page = work.page(result);
    for (width, dark) in [(1280, false), (1280, true), (400, false), (400, true), (760, false)] {
        let seen = work.look(&page, width, dark);
        let at = format!("{name}, {width} px, {}", if dark { "dark" } else { "light" });
        assert_eq!(seen["problems"], json!([]), "{at}");
        assert_eq!((&seen["width"], &seen["dark"]), (&json!(width), &json!(dark)), "{at}: not shown as asked");
        assert!(seen["texts"].as_u64().is_some_and(|texts| texts > 10), "{at}: {seen}");
        assert_eq!(seen["pictures"], seen["figures"], "{at}: one picture of each figure is shown");
    }
}

/// What the script says must be able to be wrong.
fn planted_defects_are_found() {
    let work = Work::new("planted");
    let page = work.page(&fixture("full"));
    let text = "<text x=\"5\" y=\"20\">one</text>";
    let overlapping = format!("<svg viewBox=\"0 0 90 40\">{text}{text}</svg>");
    let planted = [
        ("<div style=\"width:3000px\">wide</div>", "wider than"),
        (&overlapping, "overlap"),
        ("<svg viewBox=\"0 0 90 40\"><text x=\"70\" y=\"20\">leaves the view</text></svg>", "leaves"),
        ("<p style=\"color:#aaa;background:#bbb\">pale</p>", "contrast"),
        ("<img src=\"http://192.0.2.1/a.png\" alt=\"\">", "img-src"),
        ("<script>console.error('planted')</script>", "console"),
        ("<script>missing()</script>", "missing"),
    ];
    let defects: String = planted.iter().map(|(defect, _)| *defect).collect();
    let seen = work.look(&page.replacen("</main>", &format!("{defects}</main>"), 1), 1280, false);
    for (defect, problem) in planted {
        assert!(seen["problems"].to_string().contains(problem), "{defect}: {seen}");
    }
}

/// A result, as a run would write it.
fn fixture(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/report/{name}.json"));
    serde_json::from_str(&fs::read_to_string(path).expect("the fixture is there")).expect("it is JSON")
}

/// Many short phases with the longest names, figures of every size, names without a place to break.
fn extreme() -> Value {
    let mut result = fixture("full");
    let policy = |index: u32| ["timestamp-or-sequence", "strict", "none", "timestamp"][index as usize % 4];
    let phase = |index: u32| json!({"policy": policy(index), "from_s": f64::from(index) * 2.5, "to_s": f64::from(index + 1) * 2.5});
    result["phases"]["phases"] = (0..10).map(phase).collect();
    for moment in result["phases"]["synfin"]["series"].as_array_mut().expect("a series") {
        moment["time_wait"] = json!(60_000_000_000u64);
        moment["cps"] = json!(moment["t"].as_f64().unwrap_or_default() * 123_456.7);
    }
    result["machine"]["cpu"] = json!("A-CPU-whose-name-has-no-place-to-break-".repeat(4));
    result["command"] = json!("bench/cps.sh ".to_owned() + &"--tw=timestamp-or-sequence,none,".repeat(20));
    for (index, row) in result["sweep"]["rows"].as_array_mut().expect("rows").iter_mut().enumerate() {
        row["cps"] = json!(10f64.powi(index as i32 * 2));
        row["incarnations_aimed"] = json!(10u64.pow(index as u32 * 2));
        row["incarnations_with_old_bytes"] = json!(index.min(1));
        row["connect_latency_us"]["max"] = json!(3.6e9);
    }
    result["stacks"]["kernel"]["connect_latency_us"] = json!({"p50": 0.4, "p99": 1.0, "p999": 5e8, "max": 3.6e9});
    result["stacks"]["kernel"]["connections_per_second"] = json!(0.2);
    result["stacks"]["kernel"]["connections_per_second_rounds"] = json!([0.0, 0.2, 1.0]);
    result
}

fn doubtful() -> Value {
    let mut result = fixture("full");
    result["verdict"]["untrue"] =
        json!(["4,211 frames were dropped by the ring of client0", "mode drv was asked for, skb copy was obtained"]);
    result["sweep"]["valid"] = json!(false);
    result["sweep"]["control"]["incarnations_with_old_bytes"] = json!(0);
    result
}

/// A directory of one test, removed with everything in it.
struct Work {
    directory: PathBuf,
    name: String,
}

impl Work {
    fn new(name: &str) -> Work {
        let directory = std::env::temp_dir().join(format!("synfin-page-{}-{name}", std::process::id()));
        fs::create_dir(&directory).expect("a directory for the test");
        Work { directory, name: name.to_owned() }
    }

    /// The page that the command writes of this result.
    fn page(&self, result: &Value) -> String {
        let (from, to) = (self.directory.join("result.json"), self.directory.join("page.html"));
        fs::write(&from, result.to_string()).expect("writes");
        let output =
            Command::new(env!("CARGO_BIN_EXE_synfin-bench")).arg("report").arg(&from).arg("--out").arg(&to).output();
        let output = output.expect("runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        fs::read_to_string(to).expect("the page is there")
    }

    /// What the script says of the page at this width.
    fn look(&self, page: &str, width: u32, dark: bool) -> Value {
        let refused = "default-src 'none';";
        assert!(page.contains(refused), "the page allows nothing to be fetched");
        let with_script = page.replacen(refused, "default-src 'none'; script-src 'unsafe-inline';", 1);
        let script = format!("<head>\n<script>{}</script>", include_str!("fixtures/report/look.js"));
        fs::write(self.directory.join("looked-at.html"), with_script.replacen("<head>", &script, 1)).expect("writes");
        let frame = FRAME.replace("WIDTH", &width.to_string());
        let frame_path = self.directory.join("frame.html");
        fs::write(&frame_path, frame).expect("writes");
        let output = self.browser(width, dark).arg("--dump-dom").arg(&frame_path).output().expect("the browser runs");
        let (dom, log) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let said =
            dom.split_once("<pre id=\"said\">").and_then(|(_, rest)| rest.split_once("</pre>")).map(|(said, _)| said);
        let said = said.unwrap_or_default().replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&");
        let mut seen: Value = serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said:?}\n{log}"));
        let console =
            log.lines().filter(|line| line.contains(":CONSOLE:")).map(|line| json!(format!("console: {line}")));
        seen["problems"].as_array_mut().expect("a list").extend(console);
        self.screenshot(&frame_path, width, dark);
        seen
    }

    fn screenshot(&self, frame: &Path, width: u32, dark: bool) {
        let Some(directory) = std::env::var_os("SYNFIN_SCREENSHOTS") else { return };
        let name = format!("{}-{width}-{}.png", self.name, if dark { "dark" } else { "light" });
        let to = format!("--screenshot={}", Path::new(&directory).join(name).display());
        let status = self.browser(width, dark).arg(to).arg(frame).output().expect("the browser runs").status;
        assert!(status.success(), "no screenshot: {status}");
    }

    /// The browser without a window; the page is the project's own, so that no sandbox is needed.
    fn browser(&self, width: u32, dark: bool) -> Command {
        let mut command = Command::new("timeout");
        command.args([
            "120",
            BROWSER,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            "--no-first-run",
        ]);
        command.args(["--disable-background-networking", "--disable-component-update", "--enable-logging=stderr"]);
        command.arg(format!("--user-data-dir={}", self.directory.join("profile").display()));
        command.arg(format!("--window-size={width},4000")).arg("--virtual-time-budget=5000");
        command.arg(format!("--blink-settings=preferredColorScheme={}", if dark { 0 } else { 1 }));
        command
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        // The browser may still be putting its profile away.
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// Shows the page in a frame and keeps what its script says.
const FRAME: &str = r#"<!doctype html><meta charset="utf-8"><style>body{margin:0}iframe{border:0;width:WIDTHpx;height:4000px}pre{display:none}</style>
<script>addEventListener('message', e => { document.getElementById('said').textContent = e.data; });</script>
<iframe src="looked-at.html"></iframe><pre id="said"></pre>"#;
const BROWSER: &str = "chromium";
