//! InferencePools, as the cluster's API would check them.

use std::collections::BTreeSet;

use super::Faults;
use crate::kind::InferencePool;

pub(super) fn pool(spec: &InferencePool, faults: &mut Faults) {
    let labels = spec.selector.match_labels.len();
    let at = "spec.selector.matchLabels";
    faults.add_if(labels == 0, at, "must have at least 1 item");
    faults.at_most(64, labels, at);
    let ports = &spec.target_ports;
    faults.add_if(ports.is_empty(), "spec.targetPorts", "must have at least 1 item");
    faults.at_most(8, ports.len(), "spec.targetPorts");
    let mut known = BTreeSet::new();
    for (index, port) in ports.iter().enumerate() {
        let field = format!("spec.targetPorts[{index}].number");
        faults.port(port.number, &field);
        let message = "port number must be unique";
        faults.add_if(!known.insert(port.number), field, message);
    }
    if let Some(picker) = &spec.endpoint_picker_ref {
        faults.filled(&picker.name, "spec.endpointPickerRef.name");
        if let Some(port) = picker.port {
            faults.port(port.number, "spec.endpointPickerRef.port.number");
        }
    }
}
