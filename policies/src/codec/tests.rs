use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method};
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::model::*;
use crate::objects::compile_pattern;

fn text() -> impl Strategy<Value = Arc<str>> {
    "[a-z][a-z0-9-]{0,8}[a-z0-9]".prop_map(Arc::from)
}

fn object() -> impl Strategy<Value = ResourceName> {
    (text(), text()).prop_map(|(namespace, name)| ResourceName { namespace, name })
}

fn source_of(name: ResourceName) -> impl Strategy<Value = SourceRef> {
    prop_oneof![
        ("[a-z/]{1,9}[.]yaml", any::<u32>())
            .prop_map(|(path, line)| SourceRef::File { path: path.into(), line }),
        any::<i64>().prop_map(move |generation| SourceRef::Object { name: name.clone(), generation }),
    ]
}

fn meta() -> impl Strategy<Value = Meta> {
    let with_source = object().prop_flat_map(|name| (Just(name.clone()), source_of(name)));
    (with_source, option::of(any::<i64>())).prop_map(|((name, source), created)| Meta {
        name,
        source,
        created,
    })
}

fn hostname() -> impl Strategy<Value = HostPattern> {
    select(vec!["", "*.example.com", "shop.example.com", "a"])
        .prop_map(|text| HostPattern::parse(text).unwrap())
}

fn backend_name() -> impl Strategy<Value = BackendName> {
    let kind = select(vec![BackendKind::Service, BackendKind::Backend]);
    (kind, object(), 1_u16..).prop_map(|(kind, object, port)| BackendName { kind, object, port })
}

fn duration() -> impl Strategy<Value = Option<Duration>> {
    option::of((1_u64..1 << 40).prop_map(Duration::from_nanos))
}

fn backend() -> impl Strategy<Value = Backend> {
    let with_source = backend_name().prop_flat_map(|name| (Just(name.clone()), source_of(name.object)));
    let protocol = select(vec![AppProtocol::Http1, AppProtocol::H2c]);
    let declared = select(vec![Declared::Nothing, Declared::Http, Declared::Other]);
    let cluster_ips = vec(any::<std::net::IpAddr>(), 0..3);
    let header = select(vec![None, Some(ProxyProtocol::V1), Some(ProxyProtocol::V2)]);
    (
        with_source,
        option::of(text()),
        (protocol, declared, header),
        duration(),
        cluster_ips,
        option::of(backend_tls()),
    )
        .prop_map(
            |((name, source), port_name, (protocol, declared, header), connect_timeout, cluster_ips, tls)| {
                Backend {
                    declared,
                    proxy_protocol: header,
                    name,
                    source,
                    port_name,
                    protocol,
                    connect_timeout,
                    cluster_ips,
                    tls,
                }
            },
        )
}

fn backend_tls() -> impl Strategy<Value = BackendTls> {
    let policy = object().prop_flat_map(|name| (Just(name.clone()), source_of(name)));
    let bundle = any::<[u8; 4]>().prop_map(|pem| Trust::Bundle(pem.as_slice().into()));
    let trust = option::of(prop_oneof![Just(()).prop_map(|()| Trust::System), bundle]);
    let alt_name = prop_oneof![
        select(vec!["*.example.com", "shop.example.com"])
            .prop_map(|name| AltName::Dns(HostPattern::parse(name).unwrap())),
        "spiffe://[a-z]{1,5}/[a-z]{1,5}".prop_map(|uri| AltName::Uri(uri.into())),
    ];
    (policy, trust, text(), vec(alt_name, 0..3)).prop_map(|((name, source), trust, hostname, alt_names)| {
        let policy = PolicyRef { kind: BACKEND_TLS_POLICY.into(), name, source };
        BackendTls { policy, verification: Verification { trust, hostname, alt_names } }
    })
}

fn endpoints() -> impl Strategy<Value = Endpoints> {
    let address = prop_oneof![
        (any::<std::net::IpAddr>(), 1_u16..).prop_map(|address| Address::Socket(address.into())),
        (text(), 1_u16..).prop_map(|(host, port)| Address::Name { host, port }),
    ];
    let placement = (option::of(text()), vec(text(), 0..3), any::<u32>());
    let placement = placement.prop_map(|(zone, for_zones, priority)| Placement { zone, for_zones, priority });
    let account = (text(), text()).prop_map(|(namespace, name)| ResourceName::new(namespace, name));
    let peer = vec(account, 0..3).prop_map(|service_accounts| MeshPeer { service_accounts });
    let endpoint = (address, any::<u32>(), placement, option::of(peer));
    let endpoint =
        endpoint.prop_map(|(address, weight, placement, mesh)| Endpoint { address, weight, placement, mesh });
    (backend_name(), vec(endpoint, 0..4)).prop_map(|(backend, endpoints)| Endpoints { backend, endpoints })
}

fn policy() -> impl Strategy<Value = Policy> {
    let kind = select(vec![
        TargetKind::Namespace,
        TargetKind::Gateway,
        TargetKind::ListenerSet,
        TargetKind::HTTPRoute,
        TargetKind::GRPCRoute,
        TargetKind::Service,
        TargetKind::Backend,
    ]);
    let target = (kind, object(), option::of(text()));
    let target = target.prop_map(|(kind, object, section)| TargetRef { kind, object, section });
    let spec = btree_map("[a-z]{1,5}", any::<i64>(), 0..4).prop_map(|map| serde_json::json!(map));
    let lines = btree_map("(/[a-z0-9]{1,3}){1,3}", any::<u32>(), 0..4).prop_map(SourceMap);
    let mode = select(vec![Mode::Enforce, Mode::Shadow]);
    (meta(), text(), vec(target, 0..3), mode, spec, lines).prop_map(
        |(meta, kind, targets, mode, spec, lines)| Policy { meta, kind, targets, mode, spec, lines },
    )
}

fn certificate() -> impl Strategy<Value = Certificate> {
    let bytes = || any::<[u8; 4]>();
    (object(), bytes(), bytes()).prop_map(|(secret, chain, key)| Certificate {
        secret,
        chain: chain.as_slice().into(),
        key: PrivateKey::new(key.as_slice()),
    })
}

fn listener_name() -> impl Strategy<Value = ListenerName> {
    (object(), option::of(object()), text()).prop_map(|(gateway, set, section)| ListenerName {
        gateway,
        set,
        section,
    })
}

fn listener() -> impl Strategy<Value = Listener> {
    let with_source = listener_name().prop_flat_map(|name| {
        let owner = name.owner().clone();
        (Just(name), source_of(owner))
    });
    let mode = select(vec![ClientMode::ValidOnly, ClientMode::InsecureFallback]);
    let clients = (any::<[u8; 4]>(), mode)
        .prop_map(|(bundle, mode)| ClientValidation { bundle: bundle.as_slice().into(), mode });
    let tls = option::of(vec(certificate(), 1..3));
    let place = (vec(any::<std::net::IpAddr>(), 0..3), 1_u16..);
    let accepts = (0..3, hostname(), tls).prop_map(|(protocol, hostname, tls)| match protocol {
        0 => Accepts::Http { hostname, tls },
        1 => Accepts::Tls { hostname, mode: tls.map_or(TlsMode::Passthrough, TlsMode::Terminate) },
        _ => Accepts::Tcp,
    });
    (with_source, place, accepts, option::of(clients), option::of(certificate())).prop_map(
        |((name, source), (addresses, port), accepts, clients, client_certificate)| Listener {
            name,
            source,
            addresses,
            port,
            accepts,
            clients,
            client_certificate,
        },
    )
}

fn string_match() -> impl Strategy<Value = StringMatch> {
    prop_oneof![
        ".{1,9}".prop_map(|value| StringMatch::Exact(value.into())),
        "[a-z]{1,4}([.][*]|[|]b)?".prop_map(|p| StringMatch::Regex(compile_pattern(&p).unwrap())),
    ]
}

fn header_name() -> impl Strategy<Value = HeaderName> {
    "x-[a-z]{1,6}".prop_map(|name| name.parse().unwrap())
}

fn route_match() -> impl Strategy<Value = RouteMatch> {
    let path = prop_oneof![
        "/[a-z/]{0,6}".prop_map(|path| PathMatch::Exact(path.into())),
        "(/[a-z]{1,4}){0,3}".prop_map(|path| PathMatch::Prefix(path.into())),
        "[A-Z][a-z]{1,4}".prop_map(|method| PathMatch::AnyService(method.into())),
        "/[a-z]{1,4}([.][*])?".prop_map(|p| PathMatch::Regex(compile_pattern(&p).unwrap())),
    ];
    let header = (header_name(), string_match()).prop_map(|(name, value)| HeaderMatch { name, value });
    let query = (".{1,6}", string_match());
    let query = query.prop_map(|(name, value)| QueryMatch { name: name.into(), value });
    let method = option::of(select(vec![Method::GET, Method::POST]));
    (path, method, vec(header, 0..3), vec(query, 0..3))
        .prop_map(|(path, method, headers, query)| RouteMatch { path, method, headers, query })
}

fn fields() -> impl Strategy<Value = Vec<(HeaderName, HeaderValue)>> {
    let value = vec(32_u8..127, 0..5).prop_map(|bytes| HeaderValue::from_bytes(&bytes).unwrap());
    vec((header_name(), value), 0..3)
}

fn path_modifier() -> impl Strategy<Value = Option<PathModifier>> {
    let bare = "(/[a-z]{1,4}){0,2}";
    let whole = "(/[a-z/]{0,6})?".prop_map(|path| PathModifier::Full(path.into()));
    let prefix = (bare, bare).prop_map(|(matched, replacement)| PathModifier::Prefix {
        matched: matched.into(),
        replacement: replacement.into(),
    });
    option::of(prop_oneof![whole, prefix])
}

fn redirect() -> impl Strategy<Value = Redirect> {
    let scheme = option::of(select(vec![WebScheme::Http, WebScheme::Https]));
    let status = select(vec![301, 302, 303, 307, 308]);
    let status = status.prop_map(|status: u16| http::StatusCode::from_u16(status).unwrap());
    (scheme, option::of(text()), path_modifier(), option::of(1_u16..), status)
        .prop_map(|(scheme, hostname, path, port, status)| Redirect { scheme, hostname, path, port, status })
}

fn listed<T: std::fmt::Debug>(item: impl Strategy<Value = T>) -> impl Strategy<Value = Listed<T>> {
    prop_oneof![Just(()).prop_map(|()| Listed::All), vec(item, 0..3).prop_map(Listed::Only)]
}

fn cors() -> impl Strategy<Value = Cors> {
    let origin = "https?://([*][.])?[a-z]{1,4}[.]com(:[1-9][0-9]{0,3})?";
    let origins = listed(origin.prop_map(|text| text.parse().unwrap()));
    let methods = listed(select(vec![Method::GET, Method::POST]));
    (origins, any::<bool>(), methods, listed(header_name()), listed(header_name()), any::<u32>()).prop_map(
        |(origins, credentials, methods, headers, expose, max_age)| Cors {
            origins,
            credentials,
            methods,
            headers,
            expose,
            max_age,
        },
    )
}

fn mirror() -> impl Strategy<Value = Mirror> {
    let share = (0_u32..5).prop_map(|numerator| Share::new(numerator, 5).unwrap());
    (backend_name(), share).prop_map(|(backend, share)| Mirror { backend, share })
}

fn filter() -> impl Strategy<Value = RouteFilter> {
    let modifier = || {
        let fields = (fields(), fields(), vec(header_name(), 0..3));
        fields.prop_map(|(set, add, remove)| HeaderModifier { set, add, remove })
    };
    let rewrite = (option::of(text()), path_modifier());
    prop_oneof![
        modifier().prop_map(RouteFilter::RequestHeaders),
        modifier().prop_map(RouteFilter::ResponseHeaders),
        redirect().prop_map(RouteFilter::Redirect),
        cors().prop_map(RouteFilter::Cors),
        mirror().prop_map(RouteFilter::Mirror),
        (text(), object()).prop_map(|(kind, name)| RouteFilter::Extension(PolicyKey { kind, name })),
        Just(RouteFilter::Invalid),
        rewrite.prop_map(|(hostname, path)| RouteFilter::Rewrite(Rewrite { hostname, path })),
    ]
}

fn backend_target() -> impl Strategy<Value = std::result::Result<BackendName, InvalidRef>> {
    let invalid = select(vec![
        InvalidRef::InvalidKind,
        InvalidRef::BackendNotFound,
        InvalidRef::RefNotPermitted,
        InvalidRef::UnsupportedProtocol,
    ]);
    prop_oneof![backend_name().prop_map(Ok), invalid.prop_map(Err)]
}

fn backend_ref() -> impl Strategy<Value = BackendRef> {
    (backend_target(), text(), any::<u32>(), vec(filter(), 0..2))
        .prop_map(|(target, identity, weight, filters)| BackendRef { target, identity, weight, filters })
}

fn session() -> impl Strategy<Value = SessionPersistence> {
    let cookie = (option::of(text()), "/[a-z]{0,4}", any::<bool>())
        .prop_map(|(name, path, permanent)| SessionCarrier::Cookie { name, path: path.into(), permanent });
    let carrier = prop_oneof![cookie, header_name().prop_map(SessionCarrier::Header)];
    (carrier, duration(), duration()).prop_map(|(carrier, absolute_timeout, idle_timeout)| {
        SessionPersistence { carrier, absolute_timeout, idle_timeout }
    })
}

fn rule(meta: Meta) -> impl Strategy<Value = RouteRule> {
    let timeouts = (duration(), duration());
    let parts = (vec(route_match(), 1..3), vec(filter(), 0..2), vec(backend_ref(), 0..3));
    let retry = (vec(400_u16..600, 0..4), any::<u32>(), duration())
        .prop_map(|(codes, attempts, backoff)| Retry { codes: codes.into(), attempts, backoff });
    let again = (option::of(retry), option::of(session()));
    (option::of(text()), any::<u32>(), parts, timeouts, again).prop_map(
        move |(name, line, (matches, filters, backends), (request, backend_request), (retry, session))| {
            RouteRule {
                name,
                source: meta.at(Some(line)),
                matches,
                filters,
                backends,
                timeouts: Timeouts { request, backend_request },
                retry,
                session,
            }
        },
    )
}

fn parent() -> impl Strategy<Value = RouteParent> {
    prop_oneof![
        (listener_name(), vec(hostname(), 0..3))
            .prop_map(|(listener, hostnames)| RouteParent::Listener { listener, hostnames }),
        (object(), option::of(1_u16..)).prop_map(|(service, port)| RouteParent::Service { service, port }),
    ]
}

fn stream_route() -> impl Strategy<Value = StreamRoute> {
    let kind = select(vec![StreamKind::Tcp, StreamKind::Tls]);
    let backend =
        (backend_target(), any::<u32>()).prop_map(|(target, weight)| StreamBackend { target, weight });
    let rule = (option::of(text()), any::<u32>(), vec(backend, 0..3));
    (kind, meta(), vec(parent(), 0..3), rule).prop_map(|(kind, meta, parents, (name, line, backends))| {
        let rule = StreamRule { name, source: meta.at(Some(line)), backends };
        StreamRoute { kind, meta, parents, rule }
    })
}

fn route() -> impl Strategy<Value = Route> {
    let rules = meta().prop_flat_map(|meta| (Just(meta.clone()), vec(rule(meta), 0..3)));
    let kind = select(vec![RouteKind::Http, RouteKind::Grpc]);
    (kind, rules, vec(parent(), 0..3)).prop_map(|(kind, (meta, rules), parents)| Route {
        kind,
        meta,
        parents,
        rules,
    })
}

fn resource() -> impl Strategy<Value = Resource> {
    prop_oneof![
        backend().prop_map(Resource::Backend),
        endpoints().prop_map(Resource::Endpoints),
        policy().prop_map(Resource::Policy),
        listener().prop_map(Resource::Listener),
        route().prop_map(Resource::Route),
        stream_route().prop_map(Resource::StreamRoute),
        (object(), vec(object(), 0..3))
            .prop_map(|(name, services)| Resource::Workload(Workload { name, services })),
        ("[a-z.0-9]{1,20}", any::<bool>())
            .prop_map(|(key, known)| Resource::Destination(Destination { key, known })),
    ]
}

proptest! {
    #[test]
    fn every_resource_comes_back_as_it_was_sent_and_with_the_same_bytes(resource in resource()) {
        let (url, name, bytes) = encode(&resource);
        let kind = ResourceType::from_type_url(url).unwrap();
        let decoded = decode(kind, &name, &bytes).unwrap();
        prop_assert_eq!(&decoded, &resource);
        prop_assert_eq!(encode(&decoded).2, bytes);
    }

    #[test]
    fn no_bytes_make_decoding_panic(resource in resource(), at in any::<prop::sample::Index>(), byte: u8) {
        let (url, name, mut bytes) = encode(&resource);
        let kind = ResourceType::from_type_url(url).unwrap();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let _ = decode(kind, &name, &bytes);
        let _ = decode(kind, &name, &bytes[..at]);
    }
}

fn broken(change: impl FnOnce(&mut proto::Route)) -> CodecError {
    let wanted = crate::model::fixture::rule("r", &["/a"], vec![crate::model::fixture::to("cart", 1)]);
    let route = crate::model::fixture::route("cart", Vec::new(), vec![wanted]);
    let mut message = proto::Route::from(&route);
    change(&mut message);
    decode(ResourceType::Route, "shop/cart", &message.encode_to_vec()).unwrap_err()
}

#[test]
fn a_fault_is_named_by_its_field() {
    let error = broken(|route| route.rules[0].matches[0].path = None);
    assert_eq!(error.field, "rules[0].matches[0].path");
    let error = broken(|route| {
        let kind = Some(proto::path_match::Kind::Regex("(".into()));
        route.rules[0].matches[0].path = Some(proto::PathMatch { kind });
    });
    assert_eq!(error.field, "rules[0].matches[0].path.regex");
    let error = broken(|route| {
        route.rules[0].backends[0].target = Some(proto::backend_ref::Target::Invalid(99));
    });
    assert_eq!(error.field, "rules[0].backends[0].invalid");
    assert_eq!(broken(|route| route.meta = None).field, "meta");
    assert_eq!(broken(|route| route.rules[0].matches.clear()).field, "rules[0].matches");
}

#[test]
fn a_message_under_anothers_name_is_refused() {
    let error = broken(|route| route.meta.as_mut().unwrap().name = "pay".into());
    assert!(error.message.contains("shop/pay") && error.message.contains("shop/cart"), "{error}");
}

#[test]
fn a_tcp_listener_with_a_name_or_a_certificate_is_refused() {
    let mut message = proto::Listener::from(&Listener {
        accepts: Accepts::Tcp,
        ..crate::model::fixture::listener("gw", "tcp", "")
    });
    message.hostname = "shop.example.com".into();
    let error = decode(ResourceType::Listener, "shop/gw/tcp", &message.encode_to_vec()).unwrap_err();
    assert_eq!(error.field, "hostname");
    message.hostname = String::new();
    let certificate = proto::Certificate { secret: Some((&object_name()).into()), ..Default::default() };
    message.tls = Some(proto::ListenerTls { certificates: vec![certificate] });
    let error = decode(ResourceType::Listener, "shop/gw/tcp", &message.encode_to_vec()).unwrap_err();
    assert_eq!(error.field, "tls");
}

fn object_name() -> ResourceName {
    ResourceName::new("shop", "certificate")
}
