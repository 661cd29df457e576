//! The operator and the sidecar: parse, delegate.
fn main() {
    for c in zenop::api::all_crds() {
        println!("---\n{}", zenop::api::crd_yaml(&c).unwrap());
    }
}
