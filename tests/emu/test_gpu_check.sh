#!/bin/bash
# tests/emu/test_gpu_check.sh - launch/gpu-check without a GPU: its table on the emulator, its exit codes, and that a
# failure of the checker is its failure. Environment: PHX_SOURCE, PHX_BUILD.
set -u
script=$PHX_SOURCE/launch/gpu-check
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
bad=0
expect() { # CODE TEXT ARG...: the exit code, and a text that the output has
    local code=$1 text=$2 rc=0
    shift 2
    "$script" --dir "$tmp/out" "$@" >"$tmp/log" 2>&1 || rc=$?
    if [ $rc != "$code" ] || ! grep -qF -- "$text" "$tmp/log"; then
        echo "gpu-check $*: exit code $rc, wanted $code and '$text':"
        cat "$tmp/log"
        bad=1
    fi
}
expect 0 '| rms_norm | passed | 165 cases' --emu --built "$PHX_BUILD" --programs "$PHX_BUILD" --op rms_norm --out "$tmp/table"
grep -q '^| checker | passed |' "$tmp/table" || { echo "--out has no table"; bad=1; }
expect 2 'see --help' --bogus
expect 2 'a number from 1' --jobs none
expect 0 'Exit code: 0 all passed' --help
NVCC=$tmp/none expect 3 'no nvcc'

mkdir "$tmp/fake"
printf "#!/bin/sh\n" >"$tmp/fake/nvcc"
touch "$tmp/fake/libphalanx_emu.so" "$tmp/fake/libphalanx_cuda.so"
printf '#!/bin/sh\necho "No devices were found"\nexit 6\n' >"$tmp/fake/nvidia-smi"
chmod +x "$tmp/fake/nvidia-smi" "$tmp/fake/nvcc"
NVCC=$tmp/fake/nvcc PATH=$tmp/fake:$PATH expect 4 'no GPU: No devices were found'

# a checker that finds something, and one that dies
cat >"$tmp/fake/check_kernels" <<'END'
#!/bin/sh
echo "FAILED add emu (n 3): row 0 col 1: 2, expected 3"
echo "add                emu           136 cases  1 FAILED, equal"
exit 1
END
chmod +x "$tmp/fake/check_kernels"
expect 1 '| add | FAILED | 136 cases: FAILED add emu (n 3)' --emu --built "$tmp/fake" --programs "$tmp/none"
printf '#!/bin/sh\nkill -9 $$\n' >"$tmp/fake/check_kernels"
expect 1 '| checker | FAILED | exit code 137' --emu --built "$tmp/fake" --programs "$tmp/none"
exit $bad
