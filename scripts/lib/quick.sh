# The tour without QEMU's machine emulator: Debian's iSCSI tools against a plain LUN and a golden with clones.
# shellcheck shell=bash
#
# quick_checks FOLDER: needs common.sh and target.sh; one PASS or FAIL line each.

# A libiscsi tool prints its error and may still exit 0: the answer has to hold PATTERN.
answers() {
    local pattern=$1 out
    shift
    out=$(timeout 20 "$@" 2>&1) || { printf '%s\n' "$out"; return 1; }
    grep -qE -- "$pattern" <<<"$out" || { printf '%s\n' "$out"; return 1; }
}

quick_images() {
    head -c 24M /dev/urandom >"$1/seed"
    cat "$1/seed" "$1/seed" >"$1/source.img"
    truncate -s 64M "$1/source.img"
    head -c 110M /dev/zero >"$1/golden.img"
    dd if="$1/seed" of="$1/golden.img" bs=1M seek=30 conv=notrunc status=none
    rm "$1/seed"
    truncate -s 64M "$1/disk.raw"
    golden_sum=$(sha256sum <"$1/golden.img")
}

quick_convert_out() {
    timeout 60 qemu-img convert -f raw -O raw "$(target_url data)" "$1/back.img" &&
        cmp "$1/source.img" "$1/back.img"
}

quick_checks() {
    local folder=$1 golden_sum url
    quick_images "$folder"
    target_start "data=$folder/disk.raw" "debian=$folder/golden.img,clone=ephemeral"
    url=$(target_url data)
    check "iscsi-ls lists both targets" answers "$(target_iqn debian)(.|\$)" \
        sh -c "iscsi-ls iscsi://127.0.0.1:$TARGET_PORT | sort | tr '\n' ' ' | grep '$(target_iqn data)'"
    check "iscsi-ls -s shows a disk" answers 'DIRECT_ACCESS' iscsi-ls -s "iscsi://127.0.0.1:$TARGET_PORT"
    check "iscsi-inq" answers 'Peripheral Device Type:DIRECT_ACCESS' iscsi-inq "$url"
    check "iscsi-inq, its serial number page" answers '[Uu]nit [Ss]erial [Nn]umber' iscsi-inq -e 1 -c 128 "$url"
    check "iscsi-readcapacity16" answers 'Total size:67108864' iscsi-readcapacity16 "$url"
    check "iscsi-swp" answers 'SWP:0' iscsi-swp "$url"
    check "qemu-img convert into the LUN" timeout 60 qemu-img convert -n -f raw -O raw "$folder/source.img" "$url"
    check "qemu-img compare with the LUN" answers 'identical' qemu-img compare -f raw -F raw "$folder/source.img" "$url"
    check "qemu-img convert out of the LUN" quick_convert_out "$folder"
    if [ "$TARGET_KIND" = stampede ]; then
        check "two clones of one golden do not see each other" timeout 30 python3 "$LIB/sessions.py" clones \
            "$TARGET_PORT" "$(target_iqn debian)" "$TARGET_LUN"
        check "stampede status --json" answers 'debian' "$STAMPEDE" status --json --control "$TARGET_CONTROL"
        # Not by `check`: only this shell may wait for its child.
        if quick_stop; then pass "SIGTERM ends it cleanly"; else fail "SIGTERM ends it cleanly"; fi
    fi
    check "the disk's file is what was written" cmp "$folder/source.img" "$folder/disk.raw"
    check "the golden is untouched" test "$(sha256sum <"$folder/golden.img")" = "$golden_sum"
}

quick_stop() {
    local status=0
    kill -TERM "$TARGET_PID"
    timeout 20 tail --pid="$TARGET_PID" -f /dev/null || { echo "still there 20 s after SIGTERM"; return 1; }
    wait "$TARGET_PID" || status=$?
    [ $status -eq 0 ] || { echo "exit status $status"; tail -n 5 "$TARGET_LOG"; return 1; }
}
