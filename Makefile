# make test   everything that CI checks, and all the set-up it needs
# make servers  installs DynamoDB Local and RabbitMQ where they are missing (make test does, too)
# make fuzz   longer fuzzing: FUZZTIME=1m for each target
# make sim    more of the simulation: SEEDS=1000 FROM=1
# make planted  bugs that are built in on purpose: the simulation finds each
# make soak   real processes, killed at random: MINUTES=20 PAYLOAD=corpus:FILE
# make chaos  the same with edges, projectors and relays on DynamoDB Local and RabbitMQ: KILLS=100
# make outage the same with either of the two servers away for long: OUTAGE=60s
# make replay-kills  work on a whole store (rebuild, trim, backup …) killed in its middle: KILLS=50
# make leaks  an hour of sessions that come and go, floods of strangers: nothing may be left behind
# make bench  speed, beside the machine's limits, in one table: PAYLOAD=corpus:FILE (some ten minutes)

SHELL    := /bin/bash -euo pipefail
FUZZTIME ?= 3s
SEEDS    ?= 100
FROM     ?= 1
PAYLOAD  ?= corpus
MINUTES  ?= 2
KILLS    ?= 100
OUTAGE   ?= 60s

.PHONY: test servers format vet lint race allocations leaks rounds sim planted fuzz soak chaos outage replay-kills bench

test: format
	$(MAKE) -j2 servers vet lint # what is fetched leaves the processors alone
	$(MAKE) race allocations
	$(MAKE) -j2 planted leaks rounds # each uses one processor
	$(MAKE) sim SEEDS=500 FROM=1
	$(MAKE) fuzz FUZZTIME=1s

servers:
	@sim/servers/install.sh

format:
	@files=$$(gofmt -l .); [ -z "$$files" ] || { echo "not formatted (gofmt -w mends it):"; echo "$$files"; exit 1; }

vet:
	go vet ./...

lint:
	go tool -modfile=tools/go.mod staticcheck ./...

# Tests of processes wait for most of their time, so that more of them, and of packages, than
# there are processors run at a time.
race:
	go test -race -timeout 15m -p 3 -parallel 4 ./...

# Under the race detector more is allocated: what must not allocate is held to that without it.
allocations:
	go test -run Allocat ./edge ./events ./wire/...

# An hour of 10,000 devices: about a minute, without the race detector.
leaks:
	go test -run Leak ./edge -edge.churn=10000
	go test -run Leak ./client

# Under the race detector tests do less of what they do at random: here is all of it.
rounds:
	go test ./projections ./store/pebble

# A seed uses one processor: two halves run side by side. An interrupt reaches the one in
# the foreground only; it ends the other, too.
sim:
	@mkdir -p bin && go test -c -o bin/sim.test ./sim
	@cd sim; half=$$(( ($(SEEDS) + 1) / 2 )); \
	../bin/sim.test -test.timeout 30m -sim.from=$(FROM) -sim.seeds=$$half & other=$$!; \
	trap "kill $$other 2>/dev/null || :" EXIT; \
	../bin/sim.test -test.timeout 30m -test.run 'Seeds|SameSeed' -sim.from=$$(( $(FROM) + half )) -sim.seeds=$$(( $(SEEDS) - half )) && \
	wait $$other || { wait $$other; exit 1; }

# Bugs that are built in on purpose, one after the other: the simulation finds each.
planted:
	go vet -tags plantedbugs ./...
	go test -tags plantedbugs -timeout 30m ./sim -run PlantedBugs

# Every target of every package, two at a time. The go command may fail a target
# because its time was over in the middle of something (go.dev/issue/75804): no finding.
fuzz:
	@grep -rEo --include='*_test.go' '^func Fuzz[A-Za-z0-9_]+' . | sort | sed 's/:func /:/' | \
		xargs -P 2 -I {} $(SHELL) -c 'target={}; file=$${target%%:*}; target=$${target##*:}; \
		said=$$(go test -run "^$$" -fuzz "^$$target$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x -parallel 1 "$${file%/*}" 2>&1) && ok=1 || ok=; \
		printf "%s\n" "fuzz $${file%/*} $$target" "$$said"; \
		[ -n "$$ok" ] || [[ $$said == *"context deadline exceeded"* && $$said != *"Failing input"* && $$said != *_test.go:* ]] || exit 255'

# make test has a short one, as a test of cmd/timberline.
soak:
	go build -o bin/timberline ./cmd/timberline
	bin/timberline soak --minutes $(MINUTES) --payload $(PAYLOAD)

# make test has ten kills of it, and short outages. Some six minutes, at most an hour.
chaos: servers
	go build -o bin/timberline ./cmd/timberline
	go build -o bin/servers ./sim/servers/run
	bin/servers bin/timberline soak --nodes 2 --kills $(KILLS) --minutes 60 --every 1s --rate 50 --payload $(PAYLOAD)

outage: servers
	go test ./cmd/timberline -run Away -timeout 30m -v -outage $(OUTAGE) -heartbeat 15s

# make test has eight kills of it, on a smaller store. 50 take some six minutes.
replay-kills: servers
	go test ./cmd/timberline -run ThatIsKilledComes -timeout 60m -v -kills $(KILLS) -messages 100000

bench:
	go build -o bin/timberline ./cmd/timberline
	bin/timberline bench all --payload $(PAYLOAD)
