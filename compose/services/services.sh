#!/bin/sh
# Starts the real Kafka, Mosquitto, PostgreSQL and S3 server on free loopback ports, for tests,
# benchmarks and a look around. Nothing of the system's own services is touched.
#
#   services.sh install               fetch what is missing (Maven jars, the S3 server)
#   services.sh kafka DIR [BROKERS]   prints host:port,...   (1 or 3 brokers; with KAFKA_LOGIN=1
#                                     they take the user acuvim with the password secret alone)
#   services.sh mosquitto DIR         prints host:port
#   services.sh postgres DIR          prints a postgres:// URL
#   services.sh s3 DIR                prints an http:// endpoint with the bucket `acuvim`; s3.json
#                                     has the keys
#   services.sh database DIR NAME     makes a database; prints its postgres:// URL
#   services.sh run DIR               starts what the tests of one run share: Kafka, PostgreSQL and
#                                     S3; their addresses are in kafka.url, postgres.url and s3.url
#   services.sh again DIR NAME...     starts parts again that were killed, where they were
#   services.sh stop DIR              ends everything started in DIR
#
# DIR keeps data, NAME.log and NAME.pid of every part (kafka-1, mosquitto, postgres, s3). With
# ACUVIM_SERVICES_OWNER set to a pid, the parts end when that process does.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
kafka_libs=$root/target/services/kafka
python=$root/target/python/bin

fail() {
    echo "services.sh: $*" >&2
    exit 1
}

install() {
    if [ "$(cat "$kafka_libs/.installed" 2>/dev/null)" != "$(cksum <"$here/kafka-pom.xml")" ]; then
        echo "==> fetching Kafka's jars into target/services" >&2
        rm -rf "$kafka_libs"
        mkdir -p "$kafka_libs"
        mvn -q -B -f "$here/kafka-pom.xml" dependency:copy-dependencies -DincludeScope=runtime \
            -DoutputDirectory="$kafka_libs" >&2 ||
            fail "Maven could not fetch Kafka's jars; is Maven's repository reached?"
        cksum <"$here/kafka-pom.xml" >"$kafka_libs/.installed"
    fi
    [ -x "$python/weed" ] || fail "the S3 server is missing: run ./dev setup"
}

# N different ports that nobody has at present, below those that the system hands out by itself: a
# part that was killed finds its port free again.
ports() {
    python3 -c '
import random, socket, sys
held = []
while len(held) < int(sys.argv[1]):
    try:
        held.append(socket.create_server(("127.0.0.1", random.randint(12000, 32000))))
    except OSError:
        pass
print(*[s.getsockname()[1] for s in held])' "$1"
}

# Waits until something listens at a port, or until the part has ended.
await() { # NAME PORT
    python3 - "$dir" "$1" "$2" <<'PY' || {
import os, pathlib, socket, sys, time
folder, name, port = pathlib.Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
pid = int((folder / f"{name}.pid").read_text())
for _ in range(900):
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
        sys.exit(0)
    except OSError:
        time.sleep(0.1)
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        break
sys.exit(1)
PY
        tail -n 20 "$dir/$1.log" >&2
        fail "$1 does not listen on port $2"
    }
}

# Runs a part in the background, in a session of its own, with its pid noted.
start() { # NAME COMMAND...
    name=$1
    shift
    setsid sh -c 'echo $$ >"$0.pid"; exec "$@" >>"$0.log" 2>&1 </dev/null' "$dir/$name" "$@" \
        >/dev/null 2>&1 </dev/null &
    while [ ! -s "$dir/$name.pid" ]; do sleep 0.02; done
    [ -z "${ACUVIM_SERVICES_OWNER:-}" ] || [ -e "$dir/.watched" ] || watch_owner
}

# Ends everything in DIR once its owner is gone, however that ended.
watch_owner() {
    touch "$dir/.watched"
    setsid sh -c 'while kill -0 "$1" 2>/dev/null; do sleep 1; done; "$2" stop "$3"; rm -rf "$3"' \
        watch "$ACUVIM_SERVICES_OWNER" "$here/services.sh" "$dir" >/dev/null 2>&1 </dev/null &
}

java_quiet() {
    java -Xmx256m -XX:TieredStopAtLevel=1 -XX:-UsePerfData -Djava.io.tmpdir="$dir" \
        -Dlog4j2.level=WARN -cp "$kafka_libs/*" "$@"
}

kafka() { # BROKERS
    count=$1
    [ -e "$kafka_libs/.installed" ] || fail "Kafka is missing: run ./dev setup"
    # shellcheck disable=SC2046
    set -- $(ports $((count * 2)))
    i=1 brokers="" quorum="" voters=""
    while [ "$i" -le "$count" ]; do
        echo "$1 $2" >"$dir/kafka-$i.ports"
        brokers="$brokers${brokers:+,}127.0.0.1:$1"
        quorum="$quorum${quorum:+,}127.0.0.1:$2"
        voters="$voters${voters:+,}$i@127.0.0.1:$2:AAAAAAAAAAAAAAAAAAAA${i}Q"
        shift 2
        i=$((i + 1))
    done
    cluster=$(python3 -c 'import base64, uuid
print(base64.urlsafe_b64encode(uuid.uuid4().bytes).decode()[:22])')
    replicas=$count in_sync=1
    [ "$count" -lt 3 ] || in_sync=2
    i=1
    while [ "$i" -le "$count" ]; do
        read -r port controller <"$dir/kafka-$i.ports"
        cat >"$dir/kafka-$i.properties" <<TEXT
process.roles=broker,controller
node.id=$i
listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$controller
advertised.listeners=PLAINTEXT://127.0.0.1:$port
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
controller.quorum.bootstrap.servers=$quorum
log.dirs=$dir/kafka-$i
offsets.topic.replication.factor=$replicas
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=$replicas
transaction.state.log.min.isr=$in_sync
default.replication.factor=$replicas
min.insync.replicas=$in_sync
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
broker.session.timeout.ms=6000
auto.create.topics.enable=false
log.cleaner.dedupe.buffer.size=4194304
num.network.threads=2
num.io.threads=3
TEXT
        [ -z "${KAFKA_LOGIN:-}" ] || with_login "$dir/kafka-$i.properties"
        if [ "$count" = 1 ]; then set -- --standalone; else set -- --initial-controllers "$voters"; fi
        java_quiet kafka.tools.StorageTool format --cluster-id="$cluster" -c \
            "$dir/kafka-$i.properties" "$@" >"$dir/kafka-$i.format.log" 2>&1 &
        i=$((i + 1))
    done
    wait
    for i in $(seq "$count"); do start_kafka "$i"; done
    for i in $(seq "$count"); do await "kafka-$i" "$(cut -d' ' -f1 "$dir/kafka-$i.ports")"; done
    echo "$brokers"
}

# Devices' data behind a password: SASL PLAIN for clients and between brokers.
with_login() { # PROPERTIES
    sed -i -e 's/PLAINTEXT:\/\//SASL:\/\//g' -e 's/PLAINTEXT:PLAINTEXT,/SASL:SASL_PLAINTEXT,/' "$1"
    cat >>"$1" <<'TEXT'
inter.broker.listener.name=SASL
sasl.enabled.mechanisms=PLAIN
sasl.mechanism.inter.broker.protocol=PLAIN
listener.name.sasl.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required username="acuvim" password="secret" user_acuvim="secret";
TEXT
}

start_kafka() { # NUMBER
    start "kafka-$1" java -Xmx256m -XX:TieredStopAtLevel=1 -XX:-UsePerfData \
        -Djava.io.tmpdir="$dir" -Dlog4j2.level=WARN -cp "$kafka_libs/*" kafka.Kafka "$dir/kafka-$1.properties"
}

mosquitto_() {
    command -v mosquitto >/dev/null 2>&1 || [ -x /usr/sbin/mosquitto ] ||
        fail "mosquitto is missing: run ./dev setup"
    [ -e "$dir/mosquitto.ports" ] || ports 1 >"$dir/mosquitto.ports"
    port=$(cat "$dir/mosquitto.ports")
    mkdir -p "$dir/mosquitto-data"
    # Our bridge may be away for long: nothing is dropped while it is, up to a cap in bytes.
    cat >"$dir/mosquitto.conf" <<TEXT
listener $port 127.0.0.1
set_tcp_nodelay true
allow_anonymous true
user $(id -un)
persistence true
persistence_location $dir/mosquitto-data/
autosave_interval 1
max_queued_messages 0
max_queued_bytes 536870912
max_inflight_messages 200
message_size_limit 4194304
log_dest stderr
log_type error
log_type warning
TEXT
    # What a deployment adds: extra lines for this broker.
    [ ! -e "$dir/mosquitto.extra" ] || cat "$dir/mosquitto.extra" >>"$dir/mosquitto.conf"
    start mosquitto "$(command -v mosquitto || echo /usr/sbin/mosquitto)" -c "$dir/mosquitto.conf"
    await mosquitto "$port"
    echo "127.0.0.1:$port"
}

# PostgreSQL refuses to run as root: its own user then has a folder of its own.
as_postgres() {
    if [ "$(id -u)" = 0 ]; then runuser -u postgres -- "$@"; else "$@"; fi
}

postgres() {
    bin=$(find /usr/lib/postgresql -maxdepth 2 -name bin 2>/dev/null | sort -V | tail -n 1)
    [ -n "$bin" ] || fail "PostgreSQL is missing: run ./dev setup"
    if [ ! -e "$dir/postgres.path" ]; then
        data=$(mktemp -d /tmp/acuvim-postgres-XXXXXX)
        echo acuvim >"$data/password"
        [ "$(id -u)" != 0 ] || chown -R postgres "$data"
        (cd / && as_postgres "$bin/initdb" -D "$data/db" -U acuvim --pwfile="$data/password" \
            --auth=scram-sha-256 -E UTF8 --locale=C.UTF-8) >"$dir/postgres-init.log" 2>&1 ||
            { tail -n 20 "$dir/postgres-init.log" >&2; fail "initdb failed"; }
        echo "$data" >"$dir/postgres.path"
        ports 1 >"$dir/postgres.ports"
    fi
    start_postgres "$bin"
    port=$(cat "$dir/postgres.ports")
    PGPASSWORD=acuvim "$bin/createdb" -h 127.0.0.1 -p "$port" -U acuvim acuvim >/dev/null 2>&1 || true
    echo "postgres://acuvim:acuvim@127.0.0.1:$port/acuvim"
}

start_postgres() { # BIN
    data=$(cat "$dir/postgres.path")/db port=$(cat "$dir/postgres.ports")
    rm -f "$data/postmaster.pid"
    set -- "$1/postgres" -D "$data" -h 127.0.0.1 -p "$port" -k "" -c max_connections=200
    if [ "$(id -u)" = 0 ]; then set -- setpriv --reuid postgres --regid postgres --init-groups "$@"; fi
    (cd / && start postgres "$@")
    await postgres "$port"
    # It listens before it takes connections, after a crash for longer.
    for _ in $(seq 300); do
        "$bin/pg_isready" -q -h 127.0.0.1 -p "$port" && return 0
        sleep 0.1
    done
    fail "PostgreSQL does not become ready"
}

database() { # NAME
    read -r url <"$dir/postgres.url"
    bin=$(find /usr/lib/postgresql -maxdepth 2 -name bin 2>/dev/null | sort -V | tail -n 1)
    "$bin/psql" -q -v ON_ERROR_STOP=1 -c "CREATE DATABASE $1" "$url" >&2 ||
        fail "the database $1 can't be made"
    echo "${url%/*}/$1"
}

# Started at the same time; what one can't do is said when all have ended.
run() {
    pids=""
    for part in kafka postgres s3; do
        "$here/services.sh" "$part" "$dir" >"$dir/$part.starting" &
        pids="$pids $!"
    done
    failed=""
    for pid in $pids; do wait "$pid" || failed=yes; done
    [ -z "$failed" ] || fail "the services did not start: see the logs in $dir"
    for part in kafka postgres s3; do mv "$dir/$part.starting" "$dir/$part.url"; done
}

s3() {
    [ -x "$python/weed" ] || fail "the S3 server is missing: run ./dev setup"
    new_s3=""
    if [ ! -e "$dir/s3.ports" ]; then
        new_s3=yes
        ports 8 >"$dir/s3.ports"
        mkdir -p "$dir/s3-data"
        cat >"$dir/s3.json" <<'TEXT'
{"identities": [{"name": "acuvim", "credentials": [{"accessKey": "acuvim", "secretKey": "acuvim-secret"}],
  "actions": ["Admin", "Read", "List", "Tagging", "Write"]}]}
TEXT
    fi
    read -r s3 master master_grpc volume volume_grpc filer filer_grpc s3_grpc <"$dir/s3.ports"
    start s3 "$python/weed" -logtostderr=true server -dir="$dir/s3-data" -ip=127.0.0.1 \
        -ip.bind=127.0.0.1 -master.telemetry=false -master.electionTimeout=1s \
        -master.heartbeatInterval=100ms -volume.max=200 -filer -s3 -s3.config="$dir/s3.json" \
        -s3.port.iceberg=0 -s3.port.lance=0 -s3.port="$s3" -s3.port.grpc="$s3_grpc" \
        -master.port="$master" -master.port.grpc="$master_grpc" -volume.port="$volume" \
        -volume.port.grpc="$volume_grpc" -filer.port="$filer" -filer.port.grpc="$filer_grpc"
    await s3 "$s3"
    [ -z "$new_s3" ] || echo "s3.bucket.create -name acuvim" |
        TMPDIR=$dir "$python/weed" shell -master="127.0.0.1:$master.$master_grpc" >>"$dir/s3-bucket.log" 2>&1 ||
        fail "the bucket can't be made: $(cat "$dir/s3-bucket.log")"
    echo "http://127.0.0.1:$s3"
}

# Kafka's brokers need each other to start: several are started before any is waited for.
again() { # NAMES
    for name in "$@"; do
        if [ -s "$dir/$name.pid" ]; then
            # A killed process may need a moment to go, and its port with it.
            for _ in $(seq 300); do
                kill -0 "$(cat "$dir/$name.pid")" 2>/dev/null || break
                sleep 0.1
            done
        fi
        rm -f "$dir/$name.pid"
    done
    for part in "$@"; do
        case $part in
            kafka-*) start_kafka "${part#kafka-}" ;;
            mosquitto) mosquitto_ >/dev/null ;;
            postgres) postgres >/dev/null ;;
            s3) s3 >/dev/null ;;
            *) fail "no part is called $part" ;;
        esac
    done
    for part in "$@"; do
        case $part in
            kafka-*) await "$part" "$(cut -d' ' -f1 "$dir/$part.ports")" ;;
        esac
    done
}

stop() {
    [ -d "$dir" ] || return 0
    for file in "$dir"/*.pid; do
        [ -s "$file" ] || continue
        kill -9 -- "-$(cat "$file")" 2>/dev/null || kill -9 "$(cat "$file")" 2>/dev/null || true
        rm -f "$file"
    done
    [ ! -s "$dir/postgres.path" ] || rm -rf "$(cat "$dir/postgres.path")"
    # The S3 server puts its sockets beside everybody's, by port.
    if [ -s "$dir/s3.ports" ]; then
        for port in $(cat "$dir/s3.ports"); do rm -f /tmp/seaweedfs-*-"$port".sock; done
    fi
}

command=${1:-help}
dir=${2:-}
case $command in
    install) install ;;
    kafka | mosquitto | postgres | database | run | s3 | again | stop)
        [ -n "$dir" ] || fail "give a folder"
        [ "$command" = stop ] || mkdir -p "$dir"
        [ ! -d "$dir" ] || dir=$(cd "$dir" && pwd)
        case $command in
            kafka) kafka "${3:-1}" ;;
            mosquitto) mosquitto_ ;;
            database) database "${3:?the name of a database}" ;;
            again)
                : "${3:?the name of a part}"
                shift 2
                again "$@"
                ;;
            *) "$command" ;;
        esac
        ;;
    help | -h | --help) sed -n '2,20s/^# \{0,1\}//p' "$0" ;;
    *) fail "$command is no command; try help" ;;
esac
