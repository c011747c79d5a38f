//! What ClientTrafficPolicies mean for the listeners that they are attached to.
//!
//! What a policy asks of clients' certificates fails closed: where it is malformed, or may not have been read, no
//! client is let in by HTTPS. Of a policy that is malformed nothing else holds.

mod faults;
mod settings;
mod validation;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

pub(super) use self::faults::faults;
use self::settings::handshake;
use super::{
    Notes,
    listeners::{Listener, Listeners},
    ordered,
    targets::{self, Attached, Attaching, Targets, Tools},
    unreadable,
};
use crate::{
    Key, Resources, Severity,
    encryption::{ClientCertificates, ServerTls},
    intake::Intake,
    kind::ClientTrafficPolicy,
};

/// Has connections to `listeners` taken as policies say.
pub(super) fn resolve(resources: &Resources, listeners: &mut Listeners, notes: &mut Notes) {
    let declared = &resources.client_traffic_policies;
    for (key, policy) in declared {
        faults::remark(key, &policy.spec, notes);
    }
    // Before they are attached: a policy that gives way at one place holds at the others.
    let accepted: BTreeSet<&Key> = declared.keys().filter(|key| notes.accepts(KIND, key)).collect();
    let attached = targets::attach(ATTACHING, declared, of_policy, resources, notes);
    let mut intakes: BTreeMap<Key, Arc<Intake>> = BTreeMap::new();
    for (gateway, listeners) in &mut *listeners {
        for listener in listeners {
            let Some(key) = attached.at_listener(gateway, &listener.name) else {
                if unreadable(resources, KIND, &gateway.namespace) {
                    close(
                        listener,
                        "a ClientTrafficPolicy of the namespace may not have been read",
                    );
                }
                continue;
            };
            let Some(policy) = declared.get(key) else { continue };
            if !accepted.contains(key) {
                if asks(&policy.spec) {
                    close(listener, "the ClientTrafficPolicy is not accepted");
                }
                continue;
            }
            if let Some(tls) = &mut listener.tls {
                encrypt(Arc::make_mut(tls), resources, key, &policy.spec, notes);
            }
            let intake = intakes
                .entry(key.clone())
                .or_insert_with(|| Arc::new(settings::intake(key, &policy.spec)));
            listener.intake = Some(Arc::clone(intake));
        }
    }
    share(resources, listeners, &attached, notes);
}

/// Listeners in clear have the connections of their port in common: of several policies one holds for all.
fn share(resources: &Resources, listeners: &mut Listeners, attached: &Attached, notes: &mut Notes) {
    let order: Vec<Key> = ordered(KIND, &resources.client_traffic_policies, notes)
        .into_iter()
        .map(|(key, _)| key.clone())
        .collect();
    let mut holding: BTreeMap<u16, (usize, Arc<Intake>)> = BTreeMap::new();
    let clear = |listener: &&mut Listener| listener.tls.is_none();
    let mut each = |apply: &mut dyn FnMut(&Key, &mut Listener)| {
        for (gateway, listeners) in &mut *listeners {
            for listener in listeners.iter_mut().filter(clear) {
                apply(gateway, listener);
            }
        }
    };
    each(&mut |_, listener| {
        let Some(intake) = &listener.intake else { return };
        let rank = order.iter().position(|key| key.to_string() == *intake.policy);
        let rank = rank.unwrap_or(usize::MAX);
        let held = holding
            .entry(listener.port)
            .or_insert_with(|| (rank, Arc::clone(intake)));
        if rank < held.0 {
            *held = (rank, Arc::clone(intake));
        }
    });
    each(&mut |gateway, listener| {
        let Some((_, intake)) = holding.get(&listener.port) else {
            return;
        };
        let own = attached.at_listener(gateway, &listener.name);
        if let Some(own) = own.filter(|own| own.to_string() != *intake.policy) {
            let message = format!(
                "another listener of port {} has the policy {}, and connections in common with listener {} of {gateway}: \
                 that one holds",
                listener.port, intake.policy, listener.name
            );
            notes.conflicted(KIND, own, "PortConflict", "spec.targetRefs".to_owned(), message);
        }
        listener.intake = Some(Arc::clone(intake));
    });
}

/// Returns what a policy is for.
pub(super) fn of_policy(spec: &ClientTrafficPolicy) -> Targets<'_> {
    Targets {
        one: spec.target_ref.as_ref(),
        several: &spec.target_refs,
        selected: &spec.target_selectors,
    }
}

/// Returns whether a policy asks clients for certificates.
fn asks(spec: &ClientTrafficPolicy) -> bool {
    spec.tls
        .as_ref()
        .is_some_and(|tls| tls.client_validation.is_some())
}

/// Lets nobody in by HTTPS.
fn close(listener: &mut Listener, reason: &str) {
    if let Some(tls) = &mut listener.tls {
        Arc::make_mut(tls).clients = ClientCertificates::Nobody(reason.to_owned());
    }
}

/// Has the connections of a listener encrypted as a policy says.
fn encrypt(
    tls: &mut ServerTls,
    resources: &Resources,
    key: &Key,
    spec: &ClientTrafficPolicy,
    notes: &mut Notes,
) {
    let Some(written) = &spec.tls else { return };
    tls.handshake = handshake(written);
    if let Some(validation) = &written.client_validation {
        tls.clients = match validation::clients(resources, key, validation, notes) {
            Ok(required) => ClientCertificates::Required(Arc::new(required)),
            Err((field, message)) => {
                let field = format!("spec.tls.clientValidation.{field}");
                notes.unresolved(KIND, key, "InvalidCACertificateRef", field, &message);
                ClientCertificates::Nobody(message)
            }
        };
    }
}

/// How ClientTrafficPolicies are attached.
pub(super) const ATTACHING: Attaching = Attaching {
    kind: KIND,
    missing: Severity::Warning,
    tools: Tools::No,
};

pub(super) const KIND: &str = "ClientTrafficPolicy";
