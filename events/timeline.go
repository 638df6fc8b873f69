package events

// A Run is entries that stand in a row in a user's timeline, as a reader returns
// them.
type Run struct {
	From   Seq      // of the first event
	Events [][]byte // each a Raw
	Head   Seq      // the last seq of the timeline; 0 if it is empty
	First  Seq      // the first seq that can still be read; 1 if nothing was trimmed
	Newest ID       // the highest id of all entries up to the head; zero if there are none
}
