package sealed

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"
)

// This file is Noise NK once more, from the primitives of the standard library:
// so that packets are held against more than the library that made them. It
// follows the specification, revision 34, section by section and has its names;
// it uses nothing of this package.

const protocolName = "Noise_NK_25519_AESGCM_SHA256"

// messagePatterns is NK (section 7.5), behind its pre-message "← s".
var messagePatterns = [][]string{{"e", "es"}, {"e", "ee"}}

// nonce is that of AESGCM (section 12.4): 32 bits of zeros and n, big-endian.
func nonce(n uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{0, 0, 0, 0}, n)
}

func aesGCM(k [32]byte) cipher.AEAD {
	block, err := aes.NewCipher(k[:])
	if err != nil {
		panic(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	return aead
}

func hmacHash(key []byte, data ...byte) (sum [32]byte) {
	h := hmac.New(sha256.New, key)
	h.Write(data)
	h.Sum(sum[:0])
	return sum
}

// hkdf is HKDF with two outputs (section 4.3).
func hkdf(chainingKey [32]byte, inputKeyMaterial []byte) (output1, output2 [32]byte) {
	tempKey := hmacHash(chainingKey[:], inputKeyMaterial...)
	output1 = hmacHash(tempKey[:], 0x01)
	output2 = hmacHash(tempKey[:], append(output1[:], 0x02)...)
	return output1, output2
}

// A cipherState is the CipherState of section 5.1.
type cipherState struct {
	k *[32]byte // nil: empty
	n uint64
}

func (c *cipherState) InitializeKey(key [32]byte) { c.k, c.n = &key, 0 }

func (c *cipherState) EncryptWithAd(ad, plaintext []byte) []byte {
	if c.k == nil {
		return plaintext
	}
	c.n++
	return aesGCM(*c.k).Seal(nil, nonce(c.n-1), plaintext, ad)
}

func (c *cipherState) DecryptWithAd(ad, ciphertext []byte) ([]byte, error) {
	if c.k == nil {
		return ciphertext, nil
	}
	plaintext, err := aesGCM(*c.k).Open(nil, nonce(c.n), ciphertext, ad)
	if err == nil {
		c.n++
	}
	return plaintext, err
}

// A symmetricState is the SymmetricState of section 5.2.
type symmetricState struct {
	cipherState
	ck, h [32]byte
}

func (s *symmetricState) InitializeSymmetric(name string) {
	if len(name) <= len(s.h) {
		copy(s.h[:], name)
	} else {
		s.h = sha256.Sum256([]byte(name))
	}
	s.ck = s.h
}

func (s *symmetricState) MixKey(inputKeyMaterial []byte) {
	var tempK [32]byte
	s.ck, tempK = hkdf(s.ck, inputKeyMaterial)
	s.InitializeKey(tempK)
}

func (s *symmetricState) MixHash(data []byte) {
	s.h = sha256.Sum256(append(s.h[:], data...))
}

func (s *symmetricState) EncryptAndHash(plaintext []byte) []byte {
	ciphertext := s.EncryptWithAd(s.h[:], plaintext)
	s.MixHash(ciphertext)
	return ciphertext
}

func (s *symmetricState) DecryptAndHash(ciphertext []byte) ([]byte, error) {
	plaintext, err := s.DecryptWithAd(s.h[:], ciphertext)
	if err == nil {
		s.MixHash(ciphertext)
	}
	return plaintext, err
}

func (s *symmetricState) Split() (c1, c2 cipherState) {
	tempK1, tempK2 := hkdf(s.ck, nil)
	c1.InitializeKey(tempK1)
	c2.InitializeKey(tempK2)
	return c1, c2
}

// A handshakeState is the HandshakeState of section 5.3, with ephemeral keys that
// are handed in. It is a value: what a copy of it reads, it has not read.
type handshakeState struct {
	symmetricState
	initiator bool
	s, e      *ecdh.PrivateKey // s: the responder's only
	rs, re    *ecdh.PublicKey  // rs: the initiator's only
	message   int              // which one is next
	trace     []step
}

// A step is the state behind one thing that was done.
type step struct {
	Step  string   `json:"step"`
	Input hexBytes `json:"input"` // what was mixed in
	H     hexBytes `json:"h"`
	CK    hexBytes `json:"ck"`
	K     hexBytes `json:"k,omitempty"`
}

// hexBytes are written in hexadecimal.
type hexBytes []byte

func (b hexBytes) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, b), nil }

func (b *hexBytes) UnmarshalText(text []byte) (err error) {
	*b, err = hex.AppendDecode([]byte{}, text)
	return err
}

func (hs *handshakeState) note(what string, input []byte) {
	at := step{Step: what, Input: input, H: hs.h[:], CK: hs.ck[:]}
	if hs.k != nil {
		at.K = hs.k[:]
	}
	at.H, at.CK, at.K = slices.Clone(at.H), slices.Clone(at.CK), slices.Clone(at.K)
	hs.trace = append(slices.Clip(hs.trace), at)
}

// Initialize mixes in what both sides know: the prologue and the responder's
// static key.
func (hs *handshakeState) Initialize(prologue []byte) {
	hs.InitializeSymmetric(protocolName)
	hs.note("protocol name", []byte(protocolName))
	hs.MixHash(prologue)
	hs.note("prologue", prologue)
	static := hs.rs
	if !hs.initiator {
		static = hs.s.PublicKey()
	}
	hs.MixHash(static.Bytes())
	hs.note("pre-message: s", static.Bytes())
}

// dh is the DH of a token: the initiator's ephemeral key with the responder's
// static (es) or ephemeral (ee) one.
func (hs *handshakeState) dh(token string) ([]byte, error) {
	mine, theirs := hs.e, hs.re
	switch {
	case token == "es" && hs.initiator:
		theirs = hs.rs
	case token == "es":
		mine = hs.s
	}
	return mine.ECDH(theirs)
}

// mix does what a token says, after its key was written or read.
func (hs *handshakeState) mix(token string, e *ecdh.PublicKey) error {
	what := fmt.Sprintf("message %d: %s", hs.message+1, token)
	if token == "e" {
		hs.MixHash(e.Bytes())
		hs.note(what, e.Bytes())
		return nil
	}
	shared, err := hs.dh(token)
	if err != nil {
		return err
	}
	hs.MixKey(shared)
	hs.note(what, shared)
	return nil
}

// end notes that a message is complete.
func (hs *handshakeState) end(ciphertext []byte) {
	hs.message++
	hs.note(fmt.Sprintf("message %d: payload", hs.message), ciphertext)
}

func (hs *handshakeState) WriteMessage(payload []byte) ([]byte, error) {
	buffer := hs.e.PublicKey().Bytes()
	for _, token := range messagePatterns[hs.message] {
		if err := hs.mix(token, hs.e.PublicKey()); err != nil {
			return nil, err
		}
	}
	ciphertext := hs.EncryptAndHash(payload)
	hs.end(ciphertext)
	return append(buffer, ciphertext...), nil
}

func (hs *handshakeState) ReadMessage(message []byte) (payload []byte, err error) {
	if hs.re, err = ecdh.X25519().NewPublicKey(message[:32]); err != nil {
		return nil, err
	}
	for _, token := range messagePatterns[hs.message] {
		if err := hs.mix(token, hs.re); err != nil {
			return nil, err
		}
	}
	if payload, err = hs.DecryptAndHash(message[32:]); err != nil {
		return nil, err
	}
	hs.end(message[32:])
	return payload, nil
}
