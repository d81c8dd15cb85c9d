#!/bin/sh
# The guest's end of the line: runs the shell script that a line of base64 is, answers with a JSON object.
# A bare Debian has no Python; this is the same in all guests.
export HOME=/root PYTHONDONTWRITEBYTECODE=1
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
exec 3<>"$(ls /dev/vport*p1)"
printf '{"ready": "%s"}\n' "$(uname -r)" >&3
while IFS= read -r asked <&3; do
    printf %s "$asked" | base64 -d >/run/asked
    sh /run/asked >/run/answer.out 2>/run/answer.err </dev/null 3>&-
    printf '{"status": %d, "out": "%s", "err": "%s"}\n' $? \
        "$(base64 -w 0 /run/answer.out)" "$(base64 -w 0 /run/answer.err)" >&3
done
