use super::*;

#[test]
fn a_sidecar_is_an_init_container_that_stays() {
    let whole = injected(&web(), &Settings::default());
    let spec = template(&whole);
    let names: Vec<_> = spec["initContainers"].as_array().unwrap().iter().map(|c| &c["name"]).collect();
    assert_eq!(
        names,
        [INIT_CONTAINER, PROXY_CONTAINER],
        "connections are redirected before the sidecar is there to take them"
    );
    let proxy = container(spec, PROXY_CONTAINER);
    assert_eq!(proxy["restartPolicy"], "Always");
    assert_eq!(
        proxy["lifecycle"]["postStart"]["exec"]["command"],
        json!(["/tidegate-proxy", "wait-ready", "--admin=127.0.0.1:15020"]),
        "the application begins when the sidecar is ready"
    );
    assert_eq!(spec["containers"], template(&web())["containers"]);
    let annotations = &whole["spec"]["template"]["metadata"]["annotations"];
    assert_eq!(annotations["tidegate.io/injected"], Settings::default().proxy_image);
    for wanted in [
        "--sidecar",
        "--app=127.0.0.1:3000",
        "--inbound=[::]:15006",
        "--workload=web",
        "--namespace=$(POD_NAMESPACE)",
    ] {
        assert!(args(proxy).contains(&wanted.to_owned()), "{wanted}: {:?}", args(proxy));
    }
    assert_eq!(proxy["securityContext"]["runAsUser"], 15001);
}

#[test]
fn the_init_container_leads_calls_to_the_sidecar_but_not_its_own() {
    let whole = injected(
        &web_with(&[
            ("exclude-outbound-ports", "5432, 6379"),
            ("exclude-inbound-ports", "9090"),
            ("exclude-outbound-cidrs", "10.1.0.0/16"),
        ]),
        &Settings { excluded_outbound_ports: vec![25], ..Settings::default() },
    );
    let init = container(template(&whole), INIT_CONTAINER);
    let expected = [
        "redirect",
        "--uid=15001",
        "--outbound-port=15001",
        "--inbound-port=15006",
        "--inbound=3000",
        "--exclude-inbound=9090,15020",
        "--exclude-outbound=25,5432,6379",
        "--exclude-cidr=10.1.0.0/16",
    ];
    assert_eq!(args(init), expected);
    assert_eq!(
        init["securityContext"]["capabilities"],
        json!({ "add": ["NET_ADMIN", "NET_RAW"], "drop": ["ALL"] })
    );
    let without = injected(&web_with(&[("interception", "none")]), &Settings::default());
    let inits = template(&without)["initContainers"].as_array().unwrap();
    assert_eq!(inits.len(), 1, "only the sidecar itself");
}

#[test]
fn with_a_cni_plugin_the_pod_needs_no_rights_and_everybody_comes_after_the_sidecar() {
    let settings = Settings { cni: true, excluded_outbound_ports: vec![25], ..Settings::default() };
    let mut web = web_with(&[("exclude-outbound-cidrs", "10.1.0.0/16")]);
    web["spec"]["template"]["spec"]["initContainers"] = json!([{ "name": "migrate", "image": "m" }]);
    let whole = injected(&web, &settings);
    let spec = template(&whole);
    let names: Vec<_> = spec["initContainers"].as_array().unwrap().iter().map(|c| &c["name"]).collect();
    assert_eq!(names, [VERIFY_CONTAINER, PROXY_CONTAINER, "migrate"]);
    let verify = container(spec, VERIFY_CONTAINER);
    assert_eq!(verify["securityContext"]["capabilities"], json!({ "drop": ["ALL"] }));
    assert_eq!(verify["securityContext"]["runAsNonRoot"], true);
    let flags = args(verify);
    assert_eq!(flags[..4], ["redirect", "--verify", "--uid=15001", "--outbound-port=15001"]);
    let written = whole["spec"]["template"]["metadata"]["annotations"][REDIRECT].as_str().unwrap();
    let rules: tidegate_redirect::Rules = serde_json::from_str(written).unwrap();
    assert_eq!(rules.flags(), flags[2..], "what is verified is what the plugin is told to do");

    let without = injected(&web_with(&[("interception", "none")]), &settings);
    assert_eq!(template(&without)["initContainers"].as_array().unwrap().len(), 1);
    assert_eq!(without["spec"]["template"]["metadata"]["annotations"].get(REDIRECT), None);
    let without = injected(&web_with(&[]), &Settings::default());
    assert_eq!(without["spec"]["template"]["metadata"]["annotations"].get(REDIRECT), None);

    let plain = injected(&web_with(&[("sidecar", "plain")]), &settings);
    assert_eq!(template(&plain)["initContainers"].as_array().unwrap().len(), 1);
    assert_eq!(template(&plain)["containers"][1]["name"], PROXY_CONTAINER);
}

#[test]
fn whoever_verifies_is_not_the_user_whose_connections_are_led_nowhere() {
    let settings = Settings { cni: true, uid: 65532.try_into().unwrap(), ..Settings::default() };
    let whole = injected(&web(), &settings);
    assert_eq!(container(template(&whole), VERIFY_CONTAINER)["securityContext"]["runAsUser"], 65531);
}

#[test]
fn a_pod_that_serves_nothing_has_no_inbound_side() {
    let mut web = web_with(&[("app-port", "none")]);
    for web in [web.clone(), {
        web["spec"]["template"]["metadata"]["annotations"] = json!({});
        web["spec"]["template"]["spec"]["containers"][0]["ports"] =
            json!([{ "containerPort": 53, "protocol": "UDP" }]);
        web
    }] {
        let whole = injected(&web, &Settings::default());
        let all = [
            args(container(template(&whole), PROXY_CONTAINER)),
            args(container(template(&whole), INIT_CONTAINER)),
        ]
        .concat();
        assert!(!all.iter().any(|arg| arg.starts_with("--inbound") || arg.starts_with("--app")), "{all:?}");
    }
}

#[test]
fn every_port_that_a_container_names_comes_to_the_sidecar_and_callers_know_it() {
    let secured = Settings {
        control_plane: "https://tidegate.mesh.svc:15010".into(),
        trust_root: Some("PEM".into()),
        ..Settings::default()
    };
    let mut web = web_with(&[("exclude-inbound-ports", "9100")]);
    let ports = json!([{ "containerPort": 8080 }, { "containerPort": 9090 }, { "containerPort": 9100 },
                       { "containerPort": 8080 }, { "containerPort": 53, "protocol": "UDP" }]);
    web["spec"]["template"]["spec"]["containers"][0]["ports"] = ports;
    let whole = injected(&web, &secured);
    let proxy = args(container(template(&whole), PROXY_CONTAINER));
    for wanted in ["--app=127.0.0.1:8080", "--app-port=9090,9100", "--pod=$(POD_NAME)"] {
        assert!(proxy.contains(&wanted.to_owned()), "{wanted}: {proxy:?}");
    }
    let init = args(container(template(&whole), INIT_CONTAINER));
    assert!(init.contains(&"--inbound=8080,9090,9100".to_owned()), "{init:?}");
    let metadata = &whole["spec"]["template"]["metadata"];
    assert_eq!(
        metadata["annotations"]["tidegate.io/mesh-ports"], "8080,9090",
        "what is excluded has no sidecar"
    );
    assert_eq!(metadata["labels"]["tidegate.io/injected"], "true");
    assert_eq!(metadata["labels"]["app"], "web", "labels that were there stay");
    let plain = injected(&web, &Settings::default()).to_string();
    assert!(!plain.contains("mesh-ports"), "who has no certificate cannot be called by mTLS");
}

#[test]
fn a_plain_sidecar_waits_for_the_last_calls_of_its_application() {
    let whole = injected(&web_with(&[("sidecar", "plain")]), &Settings::default());
    let spec = template(&whole);
    let containers = spec["containers"].as_array().unwrap();
    assert_eq!(containers.len(), 2);
    assert_eq!(containers[1]["name"], PROXY_CONTAINER);
    assert_eq!(containers[1].get("restartPolicy"), None);
    assert_eq!(containers[1]["lifecycle"]["preStop"]["sleep"]["seconds"], 5);
    for (grace, waits) in [(6, json!(5)), (5, json!(4)), (1, json!(null)), (0, json!(null))] {
        let mut web = web_with(&[("sidecar", "plain")]);
        web["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = json!(grace);
        let whole = injected(&web, &Settings::default());
        let sidecar = container(template(&whole), PROXY_CONTAINER);
        assert_eq!(sidecar["lifecycle"]["preStop"]["sleep"]["seconds"], waits, "of {grace} s");
    }
    let everywhere = Settings { native_sidecar: false, ..Settings::default() };
    let native = injected(&web_with(&[("sidecar", "native")]), &everywhere);
    assert_eq!(template(&native)["containers"].as_array().unwrap().len(), 1, "a pod's own word wins");
}

#[test]
fn a_drain_that_needs_more_time_than_pods_have_is_given_it() {
    let long = Settings { drain_seconds: 60, ..Settings::default() };
    assert_eq!(template(&injected(&web(), &long))["terminationGracePeriodSeconds"], 80);
    assert_eq!(template(&injected(&web(), &Settings::default())).get("terminationGracePeriodSeconds"), None);
    let mut own = web();
    own["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = json!(5);
    assert_eq!(
        template(&injected(&own, &long))["terminationGracePeriodSeconds"],
        5,
        "what its author wrote stays"
    );
}

#[test]
fn the_token_is_for_the_control_plane_alone() {
    let whole = injected(&web(), &Settings::default());
    let token = &template(&whole)["volumes"][0]["projected"]["sources"][0]["serviceAccountToken"];
    assert_eq!(token["audience"], "tidegate");
    let mounts = container(template(&whole), PROXY_CONTAINER)["volumeMounts"].as_array().unwrap();
    assert!(mounts.iter().any(|mount| mount["name"] == "tidegate-token" && mount["readOnly"] == true));
}

#[test]
fn resources_are_the_meshs_unless_the_pod_has_its_own() {
    let whole =
        injected(&web_with(&[("proxy-cpu", "500m"), ("proxy-memory-limit", "1Gi")]), &Settings::default());
    let resources = &container(template(&whole), PROXY_CONTAINER)["resources"];
    let expected = json!({ "requests": { "cpu": "500m", "memory": "24Mi" }, "limits": { "memory": "1Gi" } });
    assert_eq!(resources, &expected);
}

#[test]
fn jobs_lists_and_cron_jobs_are_found_their_pods() {
    let mut job_pod = web()["spec"]["template"].clone();
    job_pod["spec"]["restartPolicy"] = json!("Never");
    let job = json!({ "kind": "Job", "metadata": { "name": "j" }, "spec": { "template": job_pod } });
    let cron = json!({ "kind": "CronJob", "metadata": { "name": "c" }, "spec": { "jobTemplate": { "spec": { "template": job_pod } } } });
    let service = json!({ "kind": "Service", "metadata": { "name": "s" } });
    let list = json!({ "kind": "List", "items": [service, job, cron, web()] });
    let whole = injected(&list, &Settings::default());
    assert_eq!(whole["items"][0], service);
    assert_eq!(container(template(&whole["items"][1]), PROXY_CONTAINER)["restartPolicy"], "Always");
    let of_cron = &whole["items"][2]["spec"]["jobTemplate"]["spec"]["template"]["spec"];
    assert!(args(container(of_cron, PROXY_CONTAINER)).contains(&"--workload=c".to_owned()));
    assert_eq!(
        document(&service, &Settings::default()),
        Ok(Outcome::Skipped("a Service has no pods".into()))
    );
    assert!(matches!(
        document(&json!({ "kind": "List", "items": [service] }), &Settings::default()),
        Ok(Outcome::Skipped(_))
    ));
    assert_eq!(document(&whole, &Settings::default()), Ok(Outcome::AlreadyThere));
}

#[test]
fn by_https_a_sidecar_brings_its_token_and_knows_the_control_plane_by_a_root_in_the_pod_itself() {
    let secured = Settings {
        control_plane: "https://tidegate-control-plane.tidegate-system.svc:15010".into(),
        trust_root: Some("-----BEGIN CERTIFICATE-----\n".into()),
        trust_domain: Some("prod.example".into()),
        ..Settings::default()
    };
    let whole = injected(&web(), &secured);
    let annotations = &whole["spec"]["template"]["metadata"]["annotations"];
    assert_eq!(annotations["tidegate.io/trust-root"], "-----BEGIN CERTIFICATE-----\n");
    let shown = &template(&whole)["volumes"][0]["projected"]["sources"][1]["downwardAPI"]["items"][0];
    assert_eq!(shown["fieldRef"]["fieldPath"], "metadata.annotations['tidegate.io/trust-root']");
    let args = args(container(template(&whole), PROXY_CONTAINER));
    for wanted in [
        "--identity-token=/var/run/secrets/tidegate/token".to_owned(),
        format!("--trust-root=/var/run/secrets/tidegate/{}", shown["path"].as_str().unwrap()),
        "--wait-for-identity".to_owned(),
        "--trust-domain=prod.example".to_owned(),
    ] {
        assert!(args.contains(&wanted), "{wanted}: {args:?}");
    }
    let rootless = Settings { trust_root: None, ..secured };
    assert!(document(&web(), &rootless).unwrap_err().to_string().contains("settings.trustRoot"));
    let plain = injected(&web(), &Settings::default()).to_string();
    assert!(!plain.contains("--identity-token"), "a token goes to nobody in clear text");
}

#[test]
fn the_sidecar_is_told_what_the_kubelet_asks_at_ports_that_are_led_to_it() {
    let mut web = web_with(&[("exclude-inbound-ports", "9100")]);
    let probe = |port: Json, path: &str| json!({ "httpGet": { "port": port, "path": path } });
    web["spec"]["template"]["spec"]["containers"] = json!([
        {
            "name": "app",
            "ports": [
                { "name": "http", "containerPort": 3000 }, { "containerPort": 9090 }, { "containerPort": 9100 },
            ],
            "startupProbe": probe(json!("http"), "/healthz"),
            "readinessProbe": probe(json!(3000), "ready?deep=1"),
            "livenessProbe": probe(json!(3000), "/healthz"),
        },
        {
            "name": "other",
            "ports": [{ "name": "http", "containerPort": 9090 }],
            "startupProbe": { "grpc": { "port": 9090 } },
            // A name is the container's own.
            "readinessProbe": probe(json!("http"), "/"),
            "livenessProbe": { "exec": { "command": ["true"] } },
        },
        {
            "name": "left alone",
            "startupProbe": probe(json!(9100), "/excluded"),
            "readinessProbe": { "httpGet": { "port": 3000, "path": "/tls", "scheme": "HTTPS" } },
            "livenessProbe": probe(json!("nobody"), "/"),
        },
        {
            "name": "odd",
            "startupProbe": probe(json!(3000), "/a b"),
            "readinessProbe": probe(json!(70000), "/"),
            "livenessProbe": { "tcpSocket": { "port": 3000 } },
        },
    ]);
    let whole = injected(&web, &Settings::default());
    let told: Vec<_> = args(container(template(&whole), PROXY_CONTAINER))
        .into_iter()
        .filter_map(|arg| Some(arg.strip_prefix("--probe=")?.to_owned()))
        .collect();
    assert_eq!(told, ["3000/healthz", "3000/ready?deep=1", "9090=grpc", "9090/"]);
}
