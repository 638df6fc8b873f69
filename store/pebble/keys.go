package pebble

import (
	"encoding/binary"

	"timberline/events"
	"timberline/migrations"
	"timberline/projections"
)

var metaKey = []byte("m")

func stepKey(n migrations.Number) []byte {
	return binary.BigEndian.AppendUint64([]byte("v"), uint64(n))
}

func journalKey(number uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte("j"), number)
}

func journalPrefix(j events.Journal) []byte {
	key := make([]byte, 0, 2+len(j)+8)
	key = append(key, 'l', byte(len(j)))
	return append(key, j...)
}

func recordKey(j events.Journal, at events.Offset) []byte {
	return binary.BigEndian.AppendUint64(journalPrefix(j), uint64(at))
}

func shardPrefix(s projections.Shard) []byte {
	return binary.BigEndian.AppendUint32([]byte("c"), uint32(s))
}

func checkpointKey(s projections.Shard, n projections.CheckpointNumber) []byte {
	return binary.BigEndian.AppendUint64(shardPrefix(s), uint64(n))
}

func versionPrefix(v projections.Version) []byte { return appendVersionPrefix(nil, v) }

func appendVersionPrefix(key []byte, v projections.Version) []byte {
	if v == 0 {
		return append(key, 't')
	}
	return binary.BigEndian.AppendUint32(append(key, 'T'), uint32(v))
}

func timelinePrefix(t projections.Timeline) []byte {
	return appendTimelinePrefix(make([]byte, 0, 6+len(t.User)+8), t)
}

func appendTimelinePrefix(key []byte, t projections.Timeline) []byte {
	key = append(appendVersionPrefix(key, t.Version), t.User...)
	return append(key, 0)
}

func itemKey(t projections.Timeline, last events.Seq) []byte {
	return binary.BigEndian.AppendUint64(timelinePrefix(t), uint64(last))
}

func appendItemKey(key []byte, t projections.Timeline, last events.Seq) []byte {
	return binary.BigEndian.AppendUint64(appendTimelinePrefix(key, t), uint64(last))
}

// itemOf returns the user and the seq that an item's key names, behind its version's prefix.
func itemOf(prefix, key []byte) (user []byte, last events.Seq) {
	return key[len(prefix) : len(key)-9], events.Seq(number(key))
}

// number returns the number that a key ends with.
func number(key []byte) uint64 { return binary.BigEndian.Uint64(key[len(key)-8:]) }

// after returns the first key behind all those that begin with prefix. No prefix
// of ours is all 0xff.
func after(prefix []byte) []byte {
	end := append([]byte(nil), prefix...)
	for i := len(end) - 1; ; i-- {
		if end[i]++; end[i] != 0 {
			return end[:i+1]
		}
	}
}
