#!/usr/bin/env bash
# The whole idea, on a real Kubernetes that this machine builds and starts: `make demo`.
#
# Beside itself it needs what `make demo` prepared: zenop-cluster, the zenml client, and the static binary of zenop.
set -euo pipefail
cd "$(dirname "$0")/.."

cluster=target/debug/zenop-cluster
image=zenop.dev/zenop:demo
namespace=zenml
work=$(mktemp -d)
begun=$(date +%s%N)
processes=()

bold=; dim=; plain=
if [ -t 1 ]; then bold=$'\e[1m'; dim=$'\e[2m'; plain=$'\e[0m'; fi

seconds_since() { awk -v a="$1" -v b="$(date +%s%N)" 'BEGIN { printf "%.1f", (b - a) / 1e9 }'; }
say() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; step_begun=$(date +%s%N); }
took() { printf '%s  (%s s)%s\n' "$dim" "$(seconds_since "$step_begun")" "$plain"; }
show() { printf '%s  $ %s%s\n' "$dim" "$*" "$plain"; "$@" | sed 's/^/  /'; }

clean_up() {
    status=$?
    trap - EXIT INT TERM
    if [ "$status" != 0 ]; then
        printf '\n%sThe demo failed.%s What the cluster says:\n' "$bold" "$plain" >&2
        kubectl get zen,pods --all-namespaces >&2 || true
        kubectl logs --namespace zenop-system deploy/zenop --tail 20 >&2 || true
        tail -n 20 "$work"/*.log >&2 2>/dev/null || true
    fi
    if [ "${KEEP:-}" ] && [ "$status" = 0 ]; then exit 0; fi
    [ ${#processes[@]} = 0 ] || kill "${processes[@]}" 2>/dev/null || true
    [ -z "${started:-}" ] || "$cluster" down >/dev/null 2>&1 || true
    rm -rf "$work"
    exit "$status"
}
trap clean_up EXIT INT TERM

# Real pods where that can be; else processes beside a control plane.
if [ "$(id -u)" = 0 ] && [ "$(uname)" = Linux ]; then level=node; else level=kwok; fi
if [ "$level" = node ]; then
    say "Starting Kubernetes, with a node that runs real pods"
else
    say "Starting Kubernetes. Not root on Linux, so without real pods: operator and sidecar run as processes beside it"
fi
if "$cluster" status >/dev/null 2>&1; then
    echo "A cluster of yours is up; the demo wants its own. First run: $cluster down"; exit 1
fi
started=yes
"$cluster" up "--$level" >"$work/up.log" || { cat "$work/up.log"; exit 1; }
KUBECONFIG=$("$cluster" kubeconfig)
PATH="$(dirname "$KUBECONFIG")/bin:$PWD/$(dirname "$cluster"):$PATH"
export KUBECONFIG PATH
enter() { if [ "$level" = node ]; then "$cluster" enter -- "$@"; else "$@"; fi; }
took

if [ "$level" = node ]; then
    say "Giving the node zenop's image, made of one static binary"
    "$cluster" image --binary "$ZENOP_IMAGE_BINARY" --name "$image" --output "$work/image.tar"
    "$cluster" load "$work/image.tar"
    took
fi

# Whatever runs there must do with the restricted Pod Security Standard.
restricted_namespace() {
    kubectl create namespace "$1" >/dev/null
    kubectl label namespace "$1" pod-security.kubernetes.io/enforce=restricted >/dev/null
}

say "Installing the chart with Helm, where only restricted pods may run"
restricted_namespace zenop-system
helm install zenop charts/zenop --namespace zenop-system --wait --timeout 2m \
    --set image.repository="${image%:*}" --set image.tag="${image##*:}" --set image.pullPolicy=Never >"$work/helm.log"
took

# A kubeconfig with just the rights of a ServiceAccount, for a process that stands for its pod.
as_account() {
    local file="$work/$2.kubeconfig"
    kubectl config view --raw --flatten >"$file"
    KUBECONFIG=$file kubectl config set-credentials account \
        --token="$(kubectl create token --namespace "$1" "$2" --duration 1h)" >/dev/null
    KUBECONFIG=$file kubectl config set-context --current --user=account >/dev/null
    printf '%s' "$file"
}

if [ "$level" = kwok ]; then
    account=$(as_account zenop-system zenop)
    KUBECONFIG=$account "$ZENOP_IMAGE_BINARY" operator --image "$image" --admin-listen 127.0.0.1:0 \
        --lease-namespace zenop-system --lease-name zenop 2>"$work/operator.log" &
    processes+=($!)
fi

say "Applying examples/quickstart: a server, an account, a key"
restricted_namespace "$namespace"
sed 's/^/  /' examples/quickstart/ci.yaml
kubectl apply --namespace "$namespace" -f examples/quickstart >/dev/null
if [ "$level" = kwok ]; then
    url=http://127.0.0.1:$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
    kubectl patch zenserver prod --namespace "$namespace" --type=merge -p "{\"spec\":{\"url\":\"$url\"}}" >/dev/null
fi
kubectl wait --namespace "$namespace" --for=condition=Ready zenserver/prod zenserviceaccount/ci zenapikey/ci-main \
    --timeout=2m >"$work/wait.log"
if [ "$level" = kwok ]; then
    account=$(as_account "$namespace" prod)
    KUBECONFIG=$account "$ZENOP_IMAGE_BINARY" sidecar --server prod --namespace "$namespace" \
        --listen "${url#http://}" --admin-listen 127.0.0.1:0 2>"$work/sidecar.log" &
    processes+=($!)
    until python3 -c "import urllib.request; urllib.request.urlopen('$url/ready')" 2>/dev/null; do :; done
fi
took
show kubectl get zen --namespace "$namespace"

entry() { kubectl get secret ci-main-key --namespace "$namespace" -o "jsonpath={.data.$1}" | base64 -d; }
ZENML_STORE_URL=$(entry ZENML_STORE_URL)
ZENML_STORE_API_KEY=$(entry ZENML_STORE_API_KEY)
# Nothing of the caller's own ZenML configuration, and nothing but the two variables.
zenml() {
    enter env -i HOME="$work" PATH=/usr/bin:/bin LANG=C.UTF-8 COLUMNS=110 ZENML_ANALYTICS_OPT_IN=false \
        ZENML_LOGGING_VERBOSITY=ERROR ZENML_STORE_URL="$ZENML_STORE_URL" ZENML_STORE_API_KEY="$ZENML_STORE_API_KEY" \
        "$ZENOP_ZENML" "$@"
}

say "The real zenml client logs in, with nothing but the two variables of the delivered Secret"
printf '  ZENML_STORE_URL=%s\n  ZENML_STORE_API_KEY=ZENKEY_…\n' "$ZENML_STORE_URL"
zenml service-account describe ci >"$work/account.log" 2>&1 || { cat "$work/account.log"; exit 1; }
grep -q ci "$work/account.log"
sed 's/^/  /' "$work/account.log"
took

say "A security officer deactivates the key; a client with a token keeps asking"
enter env ZENML_STORE_URL="$ZENML_STORE_URL" ZENML_STORE_API_KEY="$ZENML_STORE_API_KEY" KUBECONFIG="$KUBECONFIG" \
    PATH="$PATH" python3 cluster/revoke.py "$namespace" ci-main | sed 's/^/  /'

say "The real zenml client is refused"
if zenml service-account describe ci >"$work/refused.log" 2>&1; then
    echo "It was not refused:"; cat "$work/refused.log"; exit 1
fi
tail -n 3 "$work/refused.log" | sed 's/^/  /'
took
show kubectl get zenapikey --namespace "$namespace"

printf '\n%sDone in %s s.%s\n' "$bold" "$(seconds_since "$begun")" "$plain"
if [ "${KEEP:-}" ]; then
    cat <<HELP

It is still up. To look around:

  export KUBECONFIG=$KUBECONFIG
  export PATH=$(dirname "$KUBECONFIG")/bin:\$PATH
  kubectl describe zenapikey ci-main --namespace $namespace
  kubectl explain zenapikey.spec
HELP
    if [ "$level" = node ]; then echo "  $cluster enter    # a shell in which Services and pods are reached"; fi
    printf '\nStop it with:\n\n  %s down\n' "$cluster"
    [ ${#processes[@]} = 0 ] || printf '  kill %s\n' "${processes[*]}"
fi
