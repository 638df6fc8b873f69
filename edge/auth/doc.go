// Package auth says who may log in: it makes and checks the tokens that a LOGIN
// carries, keeps the keys of a server, and knows what was revoked.
//
// A token is a JWT that names a user ("sub"), a device ("dev") and an expiry
// ("exp"). It is signed by the server's own key (EdDSA), or by a key that the
// server was told to trust (EdDSA, RS256, HS256). The key decides the algorithm: a
// token that names another one than its key is for is refused.
//
// It knows neither sessions nor sockets: an edge asks it about each LOGIN, and a
// few times a minute whether something was revoked.
//
// # Concurrency
//
// All is safe for concurrent use. What stands in files is read again by Run of
// their [Watched]; nobody waits for that, readers have the value before.
//
// # Durability
//
// Keys are written whole or not at all, for their owner only. At every moment of a
// rotation there is a current key. A revocation that was added is on stable
// storage.
package auth
