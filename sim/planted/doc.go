// Package planted names bugs that are built into the product on purpose, to see that
// the simulation finds them: each breaks one rule at the place in the code where the
// rule is obeyed.
//
// They exist under the build tag plantedbugs alone, and one at most is chosen, by name,
// at run time. In every other build Is is a constant false, and the compiler leaves
// them out.
//
//	go test -tags plantedbugs ./sim -run Planted
package planted

// A Bug is the name of one.
type Bug string

// The bugs, and the rule or promise that each breaks.
const (
	None Bug = ""

	AckBeforeFsync       Bug = "ack before fsync"                           // promise 1
	LatePutNotLanded     Bug = "late put taken for did not land"            // R2
	AdmitOutOfOrder      Bug = "out-of-order admission"                     // R3
	HeadFromLastItem     Bug = "head taken from the last item"              // R7
	ResendUnsettled      Bug = "resend without settling"                    // R3
	SettledAsCount       Bug = "settled answered as a count"                // R3
	KeptAfterClose       Bug = "sends gathered before a foreign close kept" // R2
	CheckpointOverwrite  Bug = "checkpoint overwritten"                     // R6
	BatchUnsorted        Bug = "batch not sorted"                           // R6
	RevealBeforeDurable  Bug = "reveal before durable"                      // R8
	PushCountedDelivered Bug = "push counted as delivered"                  // promise 7
	ReplayWindowOff      Bug = "replay window off"                          // R9
	MoveUnchallenged     Bug = "address moved without challenge"            // R9
	ClockFromClient      Bug = "clock pulled by a client's word"            // R4
	RefusalForgotten     Bug = "refusal forgotten when its ack is lost"     // R3

	SwitchBehind      Bug = "version read before it has caught up"            // promise 6
	DroppedComesLive  Bug = "dropped version read"                            // promise 6
	PlaceBeforePut    Bug = "rebuild's place kept before its items"           // promise 6
	RebuiltFromOne    Bug = "trimmed timeline rebuilt from 1"                 // promise 4
	ResumedBelowFirst Bug = "rebuild resumed below what was trimmed"          // promise 4
	TrimmedUnmarked   Bug = "items trimmed before that is marked"             // promise 4
	JournalStillRead  Bug = "journal trimmed of which somebody has an entry"  // promise 6
	BackupWithoutLog  Bug = "backup without what stands only in the log"      // promise 2
	RestoredSameID    Bug = "restored store keeps its id"                     // promise 4
	StepUnstored      Bug = "step of a projection not stored before its rows" // R7
)

// All lists them.
var All = []Bug{
	AckBeforeFsync, LatePutNotLanded, AdmitOutOfOrder, HeadFromLastItem, ResendUnsettled, SettledAsCount, KeptAfterClose,
	CheckpointOverwrite, BatchUnsorted, RevealBeforeDurable, PushCountedDelivered, ReplayWindowOff, MoveUnchallenged,
	ClockFromClient, RefusalForgotten,
	SwitchBehind, DroppedComesLive, PlaceBeforePut, RebuiltFromOne, ResumedBelowFirst, TrimmedUnmarked, JournalStillRead,
	BackupWithoutLog, RestoredSameID, StepUnstored,
}
