package edge

import (
	"time"

	"timberline/events"
)

// A load is how much more comes in than the edge can do: what waits in its sockets, and
// what is on its way into the log and how fast it gets there.
type load struct {
	taken    float64   // of the sockets' room for what comes in, smoothed
	ours     float64   // the part of the packets that sessions have sent, smoothed
	looked   time.Time // when that was so
	pressure pressure
	marks    float64 // clients that are still to be told to wait

	waiting int       // messages submitted and not settled
	rate    float64   // of them a second into the log while some wait, smoothed
	since   time.Time // of the last report, or when the first of them came
}

// A pressure says what is shed: what it names, and what all lower ones do. Handshakes of
// those who have proved their address, and their logins, come last: only the bound of
// the tasks turns them away.
type pressure int32

const (
	calm    pressure = iota
	crowded          // hardly any answer to whoever has proved nothing
	rising           // some of the clients that send are told to pause
	pressed          // no pushes: clients are told now and then that there is more
	full             // no sends: they are answered busy
)

// The parts of a socket's room for what comes in at which each begins: of what is taken,
// and above crowded of what sessions have taken.
const (
	crowdedAt = 0.25
	risingAt  = 0.5
	pressedAt = 0.75
	fullAt    = 0.875
)

const (
	// standing is how long a queue has to stand to count: a time constant.
	standing = 50 * time.Millisecond
	// lookEvery is how often the sockets are looked at, at most. It takes a system call
	// for each of them, under load beside every few packets; and more looks at what has
	// to stand for so much longer would tell nothing new.
	lookEvery = time.Millisecond
	// crowdedAnswers bounds, per second, the answers to all who have proved nothing
	// while the edge is crowded: few enough to cost nothing.
	crowdedAnswers = 100
	// tellEvery is how often a client is told that there is more, of what was not
	// pushed.
	tellEvery = 500 * time.Millisecond
	// marksMost is the part of sends whose clients are told to pause when the edge is
	// as good as pressed.
	marksMost = 0.1
	// pause is how long they are told to, at least. A longer one takes fewer of them,
	// and so costs less.
	pause = time.Second
	// maxUnanswered bounds what of a session is admitted and not answered, in numbers:
	// its share of what waits for the log, however much it sends.
	maxUnanswered = 64
	// The bounds of how long a client is told to wait. It adds jitter of its own.
	minRetry = 100 * time.Millisecond
	maxRetry = 5 * time.Second
)

// press takes in how much of the sockets' room is taken, and which part of the packets
// since the last time was from sessions. Bursts are what the room is for: only what
// stands there for a while counts. And what strangers fill is no reason to shed anything
// of a session's.
func (l *load) press(now time.Time, taken, ours float64) {
	weight := min(now.Sub(l.looked).Seconds()/standing.Seconds(), 1)
	l.looked = now
	l.taken += (taken - l.taken) * weight
	l.ours += (ours - l.ours) * weight
	switch sessions := l.taken * l.ours; {
	case sessions >= fullAt:
		l.pressure = full
	case sessions >= pressedAt:
		l.pressure = pressed
	case sessions >= risingAt:
		l.pressure = rising
	case l.taken >= crowdedAt:
		l.pressure = crowded
	default:
		l.pressure = calm
	}
}

// room returns how many numbers a session may have unanswered.
func (l *load) room() events.Number {
	if l.pressure >= full {
		return 0
	}
	return maxUnanswered
}

// slows reports whether the client of a send that was taken is to pause: more and more
// of them the fuller the sockets are, so that not all wait, and come back, at once. It
// is random early detection (Floyd and Jacobson, 1993) that marks instead of dropping,
// evenly spread instead of at random.
func (l *load) slows() bool {
	if l.pressure < rising {
		return false
	}
	l.marks += marksMost * min((l.taken*l.ours-risingAt)/(pressedAt-risingAt), 1)
	if l.marks < 1 {
		return false
	}
	l.marks--
	return true
}

// retry returns when there will be room again: when what waits now is in the log.
func (l *load) retry() time.Duration {
	least := minRetry
	if l.pressure >= rising {
		least = pause
	}
	if l.rate <= 0 {
		return least
	}
	return min(max(time.Duration(float64(l.waiting)/l.rate*float64(time.Second)), least), maxRetry)
}

// submitted notes that a message is on its way into the log.
func (l *load) submitted(now time.Time) {
	if l.waiting == 0 {
		l.since = now // a time without any says nothing of how fast the log is
	}
	l.waiting++
}

// settled notes that so many messages are in the log.
func (l *load) settled(now time.Time, messages int) {
	if messages == 0 {
		return
	}
	l.waiting = max(l.waiting-messages, 0)
	if took := now.Sub(l.since); took > 0 {
		l.rate += (float64(messages)/took.Seconds() - l.rate) / 16
	}
	l.since = now
}
