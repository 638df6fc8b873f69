package wire

import "fmt"

// A Reason says why something was refused or ended.
type Reason uint8

// The reasons. Their numbers are on the wire and never change.
const (
	ReasonNone       Reason = 0
	ReasonBusy       Reason = 1  // over capacity: try again later
	ReasonVersion    Reason = 2  // the edge does not speak this protocol version
	ReasonBadToken   Reason = 3  // the token is not valid here
	ReasonExpired    Reason = 4  // the token's time is over
	ReasonMalformed  Reason = 5  // the frame breaks a rule of the protocol
	ReasonTooLarge   Reason = 6  // the body is larger than allowed
	ReasonRecipient  Reason = 7  // the recipient's name has not the required form
	ReasonNotAllowed Reason = 8  // the sender may not write there
	ReasonReplaced   Reason = 9  // the device has logged in anew
	ReasonIdle       Reason = 10 // the client was silent for too long
	ReasonShutdown   Reason = 11 // the edge stops: go on elsewhere, or here later
	ReasonLoggedOut  Reason = 12 // the client said Bye
	ReasonJournal    Reason = 13 // the session's journal is lost: log in and settle
	ReasonRevoked    Reason = 14 // the token, its device or its user was revoked
	ReasonSessions   Reason = 15 // the user has as many sessions as one may have
)

var reasonNames = []string{
	"", "busy", "version", "bad_token", "expired", "malformed", "too_large", "recipient", "not_allowed",
	"replaced", "idle", "shutdown", "logged_out", "journal", "revoked", "sessions",
}

// String returns the reason's name as JSON has it.
func (r Reason) String() string {
	if int(r) < len(reasonNames) {
		return reasonNames[r]
	}
	return fmt.Sprintf("reason %d", uint8(r))
}

// A Status qualifies a Page.
type Status uint8

// The statuses.
const (
	StatusOK     Status = 0
	StatusTooOld Status = 1 // the cursor is below First: what lies between was trimmed
	StatusAhead  Status = 2 // the cursor is above Head: it is not from this store
	StatusBusy   Status = 3 // ask again later
)

var statusNames = []string{"", "too_old", "ahead", "busy"}
