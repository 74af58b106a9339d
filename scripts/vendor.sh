#!/usr/bin/env bash
# Put the runtime of the demo page, onnxruntime-web, into gancompress/demo/web/vendor: exactly the
# version in package-lock.json, checked against its hashes. Needs npm, and the network once.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
web="$root/gancompress/demo/web"
stamp="$web/vendor/.lock"
version="$(cat "$web/package-lock.json" "$root/scripts/vendor.sh" | sha256sum)"
if [ -e "$stamp" ] && [ "$(cat "$stamp")" = "$version" ]; then exit 0; fi
if ! command -v npm >/dev/null; then
    echo "npm is needed once to install the runtime of the demo page; install Node.js" >&2
    exit 2
fi

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
cp "$web/package.json" "$web/package-lock.json" "$work"
(cd "$work" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error >&2)
dist="$work/node_modules/onnxruntime-web/dist"
rm -rf "$web/vendor"
mkdir "$web/vendor"
for name in ort.wasm.min.mjs ort-wasm-simd-threaded.{mjs,wasm} \
    ort.webgpu.min.mjs ort-wasm-simd-threaded.asyncify.{mjs,wasm}; do
    cp "$dist/$name" "$web/vendor/${name/%.mjs/.js}" # a suffix that every web host knows
done
echo "$version" > "$stamp"
echo "$web/vendor: $(du -sh "$web/vendor" | cut -f1)" >&2
