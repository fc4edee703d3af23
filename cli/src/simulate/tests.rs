use std::fs;
use std::io::{Read as _, Write as _};
use std::path::Path;

use clap::Parser;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::Value;

use super::*;

#[derive(Parser)]
struct One {
    #[command(flatten)]
    args: SimulateArgs,
}

const SHOP: &str = "\
apiVersion: v1
kind: Service
metadata: {name: shop, namespace: mesh}
spec: {ports: [{port: 80}]}
---
apiVersion: tidegate.io/v1alpha1
kind: RateLimitPolicy
metadata: {name: fair, namespace: mesh}
spec:
  targetRefs: [{kind: Service, name: shop}]
  limits:
    - {name: each, requests: 5, per: 1h, key: [{type: Header, name: x-user}]}
";

/// A second apart, all of one user.
fn log(lines: usize, user: &str) -> String {
    let line = |n: usize| {
        let (minute, second) = (n / 60 % 60, n % 60);
        format!(
            "{{\"start_time\":\"2026-11-28T10:{minute:02}:{second:02}.000Z\",\"method\":\"GET\",\"path\":\"/a\",\
             \"authority\":\"shop\",\"response_code\":200,\"duration\":3,\
             \"downstream_remote_address\":\"10.0.0.1:5\",\"x-user\":\"{user}\"}}\n"
        )
    };
    (0..lines).map(line).collect()
}

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        fs::create_dir(place.0.path().join("mesh")).unwrap();
        place.write("mesh/shop.yaml", SHOP.as_bytes());
        place
    }

    fn write(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.0.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path.display().to_string()
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    fn run(&self, more: &[&str]) -> Result<(Done, String)> {
        let mesh = self.path("mesh");
        let first = ["simulate", "--as", "serving:mesh/shop", "--policies", &mesh];
        let one = One::try_parse_from(first.iter().chain(more)).unwrap_or_else(|error| panic!("{error}"));
        run(&one.args)
    }

    fn json(&self, more: &[&str]) -> Value {
        let (_, text) = self.run(&[more, &["--json"]].concat()).unwrap();
        serde_json::from_str(&text).unwrap()
    }
}

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn a_log_is_replayed_and_whoever_is_over_the_limit_is_told_with_the_line_of_the_rule() {
    let place = Place::new();
    let path = place.write("access.log", log(20, "ann").as_bytes());
    let (done, text) = place.run(&["--traffic", &path]).unwrap();
    assert_eq!(done, Done::Well);
    assert!(
        text.contains("20 requests of")
            && text.contains("(envoy), 19.0 s of traffic from 2026-11-28T10:00:00Z on"),
        "{text}"
    );
    assert!(text.contains("limited              15   75.000 %"), "{text}");
    let source = format!("{}:12", place.path("mesh/shop.yaml"));
    assert!(
        text.contains(&format!("RateLimitPolicy mesh/fair each  {source}\n    allowed 5, refused 15")),
        "{text}"
    );
    assert!(text.contains("15  ann"), "{text}");
    assert!(text.contains("  200              5            20"), "{text}");
    assert!(text.contains("counts by header `x-user`"), "{text}");
    let told = place.json(&["--traffic", &path]);
    assert_eq!((&told["sums"]["limited"], &told["reasons"]["rate_limited"]), (&15.into(), &15.into()));
    assert_eq!(told["rules"][0]["refused_keys"][0]["key"], "ann");
}

#[test]
fn a_threshold_that_is_reached_is_exit_code_one() {
    let place = Place::new();
    let path = place.write("access.log", log(20, "ann").as_bytes());
    let (done, text) =
        place.run(&["--traffic", &path, "--fail-if", "limited > 74.9%", "--fail-if", "failed > 0"]).unwrap();
    assert_eq!(done, Done::ChecksFailed);
    assert!(text.contains("FAILED limited > 74.9%: 75.000 %\n  ok failed > 0: 0"), "{text}");
    assert_eq!(place.run(&["--traffic", &path, "--fail-if", "limited>75%"]).unwrap().0, Done::Well);
    let unasked = place.run(&["--traffic", &path, "--fail-if", "changed > 0"]).unwrap_err();
    assert!(unasked.to_string().contains("--against"), "{unasked}");
    for wrong in ["limited", "limted > 1", "limited > 1e9"] {
        assert!(One::try_parse_from(["s", "--policies", "x", "--traffic", "-", "--fail-if", wrong]).is_err());
    }
}

#[test]
fn gzip_is_told_by_its_bytes_and_what_is_cut_off_is_replayed_as_far_as_it_goes() {
    let place = Place::new();
    let whole = gzip(&log(2000, "ann"));
    let path = place.write("access.log.gz", &whole);
    assert_eq!(place.json(&["--traffic", &path])["sums"]["requests"], 2000);
    let path = place.write("cut.gz", &whole[..whole.len() / 2]);
    let told = place.json(&["--traffic", &path]);
    let all = told["sums"]["requests"].as_u64().unwrap();
    assert!((100..2000).contains(&all), "{all}");
    assert_eq!(told["log"]["broken"], "ends in the middle of its gzip stream");
    let path = place.write("head.gz", &whole[..8]);
    let error = place.run(&["--traffic", &path]).unwrap_err().to_string();
    assert!(error.contains("ends in the middle"), "{error}");
    // Two streams, one after the other, are one log.
    let path = place.write("two.gz", &[gzip(&log(10, "ann")), gzip(&log(10, "bob"))].concat());
    assert_eq!(place.json(&["--traffic", &path])["sums"]["requests"], 20);
}

#[test]
fn a_log_longer_than_what_is_read_ahead_is_replayed_to_its_end() {
    let place = Place::new();
    let lines: Vec<_> = log(3600, "ann").lines().map(str::to_owned).collect();
    // As if some had ended late; and the last line has no end.
    let written: Vec<_> = lines.chunks(7).flat_map(|some| some.iter().rev().cloned()).collect();
    let path = place.write("long.log", written.join("\n").as_bytes());
    let told = place.json(&["--traffic", &path]);
    assert_eq!((&told["sums"]["requests"], &told["log"]["lines"]), (&3600.into(), &3600.into()));
    assert_eq!((&told["log"]["late"], &told["log"]["garbage"]), (&0.into(), &0.into()));
    let in_order = place.write("sorted.log", lines.join("\n").as_bytes());
    let sorted = place.json(&["--traffic", &in_order]);
    for what in ["sums", "series", "rules", "backends"] {
        assert_eq!(told[what], sorted[what], "{what}");
    }
}

#[test]
fn garbage_is_counted_and_shown_and_fatal_only_where_most_of_it_is() {
    let place = Place::new();
    let mut text = log(10, "ann");
    text.insert_str(0, "oops\n");
    text.push_str("{\"start_time\": 5\n\u{1b}[31m<b>\n\n");
    let path = place.write("mixed.log", text.as_bytes());
    let told = place.json(&["--traffic", &path]);
    assert_eq!((&told["log"]["garbage"], &told["log"]["lines"]), (&3.into(), &14.into()));
    let first = &told["log"]["first_garbage"];
    assert_eq!((&first[0]["line"], &first[0]["text"]), (&1.into(), &"oops".into()));
    assert_eq!(first[2]["text"], "[31m<b>", "without what would colour a terminal");
    let path = place.write("most.log", format!("{}{}", log(10, "ann"), "x\n".repeat(21)).as_bytes());
    assert!(place.run(&["--traffic", &path]).unwrap_err().to_string().contains("most lines are no lines"));
    let path = place.write("none.log", b"what\nis\nthis\n");
    let error = place.run(&["--traffic", &path]).unwrap_err().to_string();
    assert!(error.contains("as `what`; --format says"), "{error}");
    let path = place.write("empty.log", b"");
    assert!(place.run(&["--traffic", &path]).unwrap_err().to_string().contains("nothing in it"));
    assert!(place.run(&["--traffic", "/no/such/file"]).is_err());
}

#[test]
fn a_line_without_an_end_takes_no_memory() {
    let long = std::io::repeat(b'x').take(3 << 20).chain(&b"\nshort\nlast"[..]);
    let mut input = input::Input::of(long, None).unwrap();
    let mut line = Vec::new();
    assert_eq!(input.next(&mut line).unwrap(), input::Next::TooLong);
    assert!(line.len() <= (1 << 20) + 1 && line.capacity() <= 3 << 20);
    for want in ["short", "last"] {
        assert_eq!(input.next(&mut line).unwrap(), input::Next::Line);
        assert_eq!(line, want.as_bytes());
    }
    assert_eq!(input.next(&mut line).unwrap(), input::Next::End);
}

#[test]
fn what_differs_between_two_sets_of_policies_is_told_with_examples() {
    let place = Place::new();
    let old = SHOP.replace("requests: 5", "requests: 15");
    fs::create_dir(place.0.path().join("old")).unwrap();
    place.write("old/shop.yaml", old.as_bytes());
    let path = place.write("access.log", log(20, "ann").as_bytes());
    let old = place.path("old");
    let arguments = ["--traffic", &*path, "--against", &old, "--fail-if", "changed > 5"];
    let (done, text) = place.run(&arguments).unwrap();
    assert_eq!(done, Done::ChecksFailed);
    assert!(text.contains("10 verdicts differ, 50.000 %"), "{text}");
    assert!(text.contains("-> 429 rate_limited\n              by RateLimitPolicy mesh/fair each"), "{text}");
    assert!(text.contains("2026-11-28T10:00:05Z 10.0.0.1 GET shop/a"), "{text}");
    let told = place.json(&arguments);
    assert_eq!((&told["against"]["changed"], &told["against"]["sums"]["limited"]), (&10.into(), &5.into()));
}

#[test]
fn a_report_in_html_is_one_file_without_scripts_and_with_everything_escaped() {
    let place = Place::new();
    let nasty = "<img src=x onerror=alert(1)>&'";
    let path = place.write("access.log", log(20, nasty).as_bytes());
    let html = place.path("report.html");
    place.run(&["--traffic", &path, "--html", &html]).unwrap();
    let html = fs::read_to_string(html).unwrap();
    assert!(html.starts_with("<!doctype html>") && html.ends_with("</html>\n"));
    assert!(html.contains("<svg") && html.contains("prefers-color-scheme:dark"));
    assert!(html.contains("&lt;img src=x onerror=alert(1)&gt;&amp;&#39;"), "{html}");
    for never in ["<script", "<img", "src=\"", "href", "http://", "https://", "url(", "@import"] {
        assert!(!html.contains(never), "{never}");
    }
    // Whatever opens is closed.
    for tag in ["table", "svg", "tr", "ul", "h2", "body"] {
        let count = |text: &str| html.matches(text).count();
        assert_eq!(
            count(&format!("<{tag}>")) + count(&format!("<{tag} ")),
            count(&format!("</{tag}>")),
            "{tag}"
        );
    }
}

#[test]
fn a_profile_is_replayed_by_its_seed() {
    let place = Place::new();
    let profile = "duration: 60s\nclients: [{request: GET http://shop/a, rate: 5, headers: {x-user: '{key}'}, key: {count: 100}}]\n";
    let path = place.write("p.yaml", profile.as_bytes());
    let [one, again, other] =
        ["1", "1", "2"].map(|seed| place.json(&["--profile", &path, "--seed", seed])["sums"].clone());
    assert!(one == again && one != other && one["limited"].as_u64() > Some(0), "{one} {other}");
    let path = place.write("bad.yaml", profile.replace("rate: 5", "rat: 5").as_bytes());
    assert_eq!(place.run(&["--profile", &path]).unwrap().0, Done::Unusable);
}

#[test]
fn policies_that_cannot_be_used_are_exit_code_two() {
    let place = Place::new();
    let path = place.write("access.log", log(5, "ann").as_bytes());
    place.write("mesh/new.yaml", SHOP.replace("v1alpha1", "v9").as_bytes());
    assert_eq!(place.run(&["--traffic", &path]).unwrap().0, Done::Unusable);
    fs::remove_file(Path::new(&place.path("mesh/new.yaml"))).unwrap();
    let one = One::parse_from(["s", "--policies", &place.path("mesh"), "--traffic", &path]);
    let error = format!("{:#}", run(&one.args).unwrap_err());
    assert!(error.contains("no Gateway here has a listener"), "{error}");
    for wrong in ["sidecar", "caller:", "serving:x", "serving:a/b/c"] {
        let parsed = One::try_parse_from(["s", "--policies", "x", "--traffic", "-", "--as", wrong]);
        assert!(parsed.is_err(), "{wrong}");
    }
}
