//! What somebody may do, by what the API server says and by what it did.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::authorization::v1::{
    SelfSubjectRulesReview, SubjectAccessReview, SubjectAccessReviewSpec,
};
use kube::{Api, Client, api::PostParams};
use serde_json::{Value, from_value, json};
use tokio::time::{sleep, timeout};
use zenop_cluster::{ControlPlane, client_from};

use crate::support::PATIENCE;

/// What may be done to what: ("apps/deployments", "get").
pub type Rules = BTreeSet<(String, String)>;

/// Everything that the bearer may do in a namespace.
pub async fn rules(client: &Client, namespace: &str) -> Result<Rules> {
    let review = from_value(json!({"metadata": {}, "spec": {"namespace": namespace}}))?;
    let api = Api::<SelfSubjectRulesReview>::all(client.clone());
    let answer = api.create(&PostParams::default(), &review).await?;
    let status = answer.status.context("no answer")?;
    let mut all = Rules::new();
    for rule in status.resource_rules {
        let names = rule.resource_names.unwrap_or_default();
        let names: Vec<String> = match &names[..] {
            [] => vec![String::new()],
            names => names.iter().map(|name| format!(" named {name}")).collect(),
        };
        for group in rule.api_groups.iter().flatten() {
            for resource in rule.resources.iter().flatten() {
                for name in &names {
                    let what = format!("{}{name}", of_group(group, resource));
                    all.extend(rule.verbs.iter().map(|verb| (what.clone(), verb.clone())));
                }
            }
        }
    }
    for rule in status.non_resource_rules {
        for url in rule.non_resource_urls.iter().flatten() {
            all.extend(rule.verbs.iter().map(|verb| (url.clone(), verb.clone())));
        }
    }
    Ok(all)
}

fn of_group(group: &str, resource: &str) -> String {
    match group {
        "" => resource.to_owned(),
        group => format!("{group}/{resource}"),
    }
}

pub fn minus(all: &Rules, less: &Rules) -> Rules {
    all.difference(less).cloned().collect()
}

/// Without the names of objects, which the audit log has elsewhere.
pub fn nameless(rules: &Rules) -> Rules {
    let resource = |what: &str| what.split(' ').next().unwrap_or_default().to_owned();
    let all = rules.iter();
    all.map(|(what, verb)| (resource(what), verb.clone()))
        .collect()
}

/// For people: a line for each resource.
pub fn tell(rules: &Rules) -> String {
    let resources: BTreeSet<&String> = rules.iter().map(|(what, _)| what).collect();
    let line = |what: &String| {
        let verbs = rules.iter().filter(|(w, _)| w == what);
        let verbs: Vec<&str> = verbs.map(|(_, verb)| verb.as_str()).collect();
        format!("{what}: {}\n", verbs.join(" "))
    };
    resources.into_iter().map(line).collect()
}

pub async fn client_of(plane: &ControlPlane, namespace: &str, account: &str) -> Result<Client> {
    let file = plane.kubeconfig_for_service_account(namespace, account, None);
    client_from(&file.await?).await
}

pub fn snapshot(name: &str, text: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("../golden");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, text));
}

/// Somebody, and what is asked of the API server about them.
pub struct Subject {
    pub client: Client,
    pub user: String,
    pub groups: Vec<String>,
}

impl Subject {
    pub fn service_account(client: &Client, namespace: &str, name: &str) -> Self {
        Self {
            client: client.clone(),
            user: format!("system:serviceaccount:{namespace}:{name}"),
            groups: vec![
                "system:serviceaccounts".into(),
                format!("system:serviceaccounts:{namespace}"),
                "system:authenticated".into(),
            ],
        }
    }

    /// Whether they may; `what` is `<verb> <group>/<resource>[/<subresource>][ <name>]`, the group left out for the core's.
    pub async fn may(&self, namespace: &str, what: &str) -> Result<bool> {
        let mut words = what.split(' ');
        let (verb, resource, name) = (words.next(), words.next(), words.next());
        let mut path: Vec<&str> = resource.context("no resource")?.split('/').collect();
        let names_group = path[0].contains('.') || ["apps", "*"].contains(&path[0]);
        let group = if names_group { path.remove(0) } else { "" };
        let spec: SubjectAccessReviewSpec = from_value(json!({
            "user": self.user, "groups": self.groups,
            "resourceAttributes": {
                "namespace": namespace, "verb": verb, "group": group, "resource": path[0],
                "subresource": path.get(1), "name": name,
            },
        }))?;
        let review = SubjectAccessReview {
            spec,
            ..Default::default()
        };
        let api = Api::<SubjectAccessReview>::all(self.client.clone());
        let answer = api.create(&PostParams::default(), &review).await?;
        Ok(answer.status.context("no answer")?.allowed)
    }

    /// Waits until they may: Kubernetes joins roles in the background, and nothing tells when its authorizer knows.
    pub async fn comes_to(&self, namespace: &str, what: &str) -> Result<()> {
        let granted = async {
            while !self.may(namespace, what).await? {
                sleep(Duration::from_millis(50)).await;
            }
            Ok(())
        };
        let granted = timeout(PATIENCE, granted).await;
        granted.with_context(|| format!("{} never may {what}", self.user))?
    }

    /// Fails unless they may, or may not, do all of these.
    pub async fn check(&self, expected: bool, namespace: &str, all: &[&str]) -> Result<()> {
        for what in all {
            let may = self.may(namespace, what).await?;
            ensure!(
                may == expected,
                "{} in {namespace}: {what}: {may}",
                self.user
            );
        }
        Ok(())
    }
}

/// What a user was granted so far, and what they were refused.
pub async fn asked(plane: &ControlPlane, user: &str) -> Result<(Rules, Rules)> {
    let (mut used, mut refused) = (Rules::new(), Rules::new());
    for event in plane.audit_events().await? {
        if event["user"]["username"] != user {
            continue;
        }
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let object = &event["objectRef"];
        let mut what = of_group(&text(&object["apiGroup"]), &text(&object["resource"]));
        if let Some(subresource) = object["subresource"].as_str() {
            what = format!("{what}/{subresource}");
        }
        let asked = (what, text(&event["verb"]));
        match event["responseStatus"]["code"].as_u64() {
            Some(403) => refused.insert(asked),
            _ => used.insert(asked),
        };
    }
    Ok((used, refused))
}

/// What nobody of ours may, wherever they are.
pub const NEVER: &[&str] = &[
    "* */*",
    "escalate rbac.authorization.k8s.io/roles",
    "escalate rbac.authorization.k8s.io/clusterroles",
    "bind rbac.authorization.k8s.io/roles",
    "bind rbac.authorization.k8s.io/clusterroles",
    "create rbac.authorization.k8s.io/clusterroles",
    "create rbac.authorization.k8s.io/clusterrolebindings",
    "impersonate users",
    "impersonate groups",
    "impersonate serviceaccounts",
    "create serviceaccounts/token",
    "create pods",
    "get pods",
    "create pods/exec",
    "get pods/exec",
    "create pods/attach",
    "create pods/portforward",
    "get pods/log",
    "get nodes",
    "get nodes/proxy",
    "delete configmaps",
    "deletecollection configmaps",
    "get persistentvolumes",
    "create namespaces",
    "get apiextensions.k8s.io/customresourcedefinitions",
    "create admissionregistration.k8s.io/mutatingwebhookconfigurations",
    "create certificates.k8s.io/certificatesigningrequests",
    "create zenop.dev/zenservers",
    "update zenop.dev/zenservers",
    "patch zenop.dev/zenservers",
    "update zenop.dev/zenserviceaccounts",
    "update zenop.dev/zenapikeys",
    "delete zenop.dev/zenservers",
    "deletecollection zenop.dev/zenapikeys",
    "deletecollection zenop.dev/zenserviceaccounts",
    "update zenop.dev/zenapikeys/status",
    "patch zenop.dev/zenservers/scale",
    "deletecollection secrets",
    "update secrets",
];
