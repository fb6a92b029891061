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

# a GPU and compute-sanitizer as they answer: its flags, its exit code
printf '#!/bin/sh\necho "Cuda compilation tools, release 13.0, V13.0.48"\n' >"$tmp/fake/nvcc"
printf '#!/bin/sh\necho "NVIDIA H100 80GB HBM3, 9.0, 580.65.06"\n' >"$tmp/fake/nvidia-smi"
printf '#!/bin/sh\necho "add                cuda           136 cases  worst 0.1 of its limit: n 3"\n' >"$tmp/fake/check_kernels"
cat >"$tmp/fake/compute-sanitizer" <<'END'
#!/bin/sh
[ "$1" = --tool ] && [ "$3 $4" = "--error-exitcode 99" ] || exit 1
tool=$2
shift 4
"$@" || exit
[ "$tool" = "${BAD_TOOL-}" ] || exit 0
echo "========= Error: Race reported between Write access and Read access"
exit 99
END
chmod +x "$tmp/fake/check_kernels" "$tmp/fake/compute-sanitizer"
with_gpu() { NVCC=$tmp/fake/nvcc PATH=$tmp/fake:$PATH expect "$@" --built "$tmp/fake" --programs "$tmp/none"; }
with_gpu 0 '**NVIDIA H100 80GB HBM3**, compute capability 9.0, driver 580.65.06, toolkit 13.0'
with_gpu 0 '| racecheck | passed | 1 ops'
BAD_TOOL=racecheck with_gpu 1 '| racecheck | FAILED | exit code 99: ========= Error: Race reported'
BAD_TOOL=racecheck with_gpu 1 '| memcheck | passed | 1 ops'

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
