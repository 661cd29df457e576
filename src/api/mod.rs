//! The kinds of group `zenop.dev`, version `v1alpha1`: types, schema, rules. No client, no crypto, no async.

mod api_key;
mod common;
mod component;
mod crds;
mod database;
mod device;
mod duration;
mod elsewhere;
mod expose;
mod network;
mod placement;
mod pod_template;
mod record;
mod reference;
mod secret;
mod server;
mod service_account;
mod signing;
mod template;
mod update;
mod user;
mod volumes;

pub use api_key::{
    Consumer, ConsumerKind, ConsumerStatus, Delivery, DeliveryMode, DeliveryStatus, KeyGeneration,
    KeyState, KeyUse, OnSecretLoss, Retirement, Rotation, RotationWindow, SecretKeyRef, SecretKeys,
    SecretTemplate, Source, SourceType, UsedFrom, ValueFrom, VerifierSource, Weekday, ZenAPIKey,
    ZenAPIKeySpec, ZenAPIKeyStatus,
};
pub use common::{
    Adoption, DeletionPolicy, FIELD_MANAGER, GROUP, HOLD_FINALIZER, KindStatus, LocalRef,
    RECORD_FINALIZER, VERSION, annotation, condition, is_object_name, label, reason, whole_seconds,
};
pub use component::{
    ComponentTarget, ComponentType, ReferenceState, ReferenceStatus, ValidationLevel, ZenComponent,
    ZenComponentSpec, ZenComponentStatus,
};
pub use crds::{all_crds, crd_file_name, crd_yaml};
pub use database::{
    BackupMethod, Database, DatabaseStatus, DatabaseType, Migration, MigrationResult,
    MigrationStatus, Mysql, MysqlTls, VOLUME_PATH, Volume,
};
pub use device::{
    Authorization, DevicePhase, Redemption, UserKind, UserRef, ZenDevice, ZenDeviceSpec,
    ZenDeviceStatus,
};
pub use duration::ApiDuration;
pub use elsewhere::{Certificate, HTTPRoute};
pub use expose::{
    Expose, ExposeMode, GatewayFront, IngressFront, IssuerRef, ParentRef, Tls, TlsMode,
};
pub use network::{Egress, NetworkGuard};
pub use placement::{
    Affinity, Amount, NodeAffinity, NodeExpression, NodeOperator, NodeSelector, NodeTerm,
    PodAffinity, PodLabels, PodTerm, PreferredNodes, PreferredPods, Resources, TaintEffect,
    Toleration, TolerationOperator, TopologySpread, Unsatisfiable,
};
pub use pod_template::{PodTemplate, Variable};
pub use record::Record;
pub use reference::reference;
pub use secret::{
    Alphabet, DriftPolicy, EntryFrom, EntrySource, EntryStatus, Generate, OwnerRef, Referrer,
    SecretEntry, SecretScope, SecretTarget, TargetTemplate, UsedBy, ValueRotation, ZenSecret,
    ZenSecretSpec, ZenSecretStatus,
};
pub use server::{
    Auth, AuthScheme, AuthSecretStatus, ClientSecretFrom, Cors, DeviceAuth, DevicePolicy, External,
    KeyPolicy, Policy, RateLimit, Sealing, SealingStatus, SecureHeaders, ZenServer, ZenServerSpec,
    ZenServerStatus,
};
pub use service_account::{
    KeyCount, ZenServiceAccount, ZenServiceAccountSpec, ZenServiceAccountStatus,
};
pub use signing::{Jwt, SigningKeyState, SigningKeyStatus};
pub use update::{Update, UpdatePolicy};
pub use user::{
    ActivationStatus, ExternalPerson, LoginMethod, PasswordFrom, UserActivation, ZenUser,
    ZenUserSpec, ZenUserStatus,
};
pub use volumes::{
    ClaimVolume, ConfigMapVolume, ContainerPort, EmptyDir, EntryFile, ExtraContainer,
    PlainVariable, PodVolume, SecretVolume, VolumeMount,
};
