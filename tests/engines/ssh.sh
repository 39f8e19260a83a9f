# OpenSSH: a server of its own on port 22022 of loopback. Debian: openssh-server openssh-client.
example=remote-host

adapted() {
    sed -e "s|-i/etc/boathook/ssh/id|-i$scratch/ssh/id|" -e "s|/etc/boathook/ssh/known_hosts|$scratch/ssh/known_hosts|" \
        -e 's|    - deploy@www.example.com|    - -p22022\n    - root@127.0.0.1|'
}

engine_up() {
    local here=$scratch/ssh
    mkdir -p "$here" /run/sshd
    chmod 700 "$here"
    ssh-keygen -q -t ed25519 -N '' -f "$here/id"
    ssh-keygen -q -t ed25519 -N '' -f "$here/host"
    cp "$here/id.pub" "$here/authorized"
    cat > "$here/config" << C
ListenAddress 127.0.0.1:22022
HostKey $here/host
AuthorizedKeysFile $here/authorized
PidFile none
StrictModes no
UsePAM no
PermitRootLogin prohibit-password
MaxStartups 100
C
    /usr/sbin/sshd -D -f "$here/config" -E "$here/log" &
    daemons=$!
    for _ in $(seq 50); do
        ssh-keyscan -p 22022 127.0.0.1 > "$here/known_hosts" 2> /dev/null
        [ -s "$here/known_hosts" ] && return
        sleep 0.2
    done
    return 1
}

engine_down() { kill "$daemons" 2> /dev/null; }
