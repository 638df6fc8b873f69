package auth

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// good is the content of a token that is right in all but maybe its signature.
func good() jwt.MapClaims {
	return jwt.MapClaims{"sub": "alice", "dev": "phone", "exp": now.Add(time.Hour).Unix()}
}

// sign returns a token, with a header's kid if it is not empty.
func sign(t testing.TB, m jwt.SigningMethod, key any, kid string, c jwt.MapClaims) string {
	t.Helper()
	token := jwt.NewWithClaims(m, c)
	if kid != "" {
		token.Header["kid"] = kid
	}
	text, err := token.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

var secret = []byte(strings.Repeat("0123456789abcdef", 2))

// The RSA keys of the tests: making one takes a while.
var (
	rsaKey   = sync.OnceValue(func() *rsa.PrivateKey { return newRSA(2048) })
	rsaOther = sync.OnceValue(func() *rsa.PrivateKey { return newRSA(2048) })
	rsaShort = sync.OnceValue(func() *rsa.PrivateKey { return newRSA(1024) })
)

func newRSA(bits int) *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		panic(err)
	}
	return key
}

// publicPEM returns a public key as its file holds it.
func publicPEM(t testing.TB, key any) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

// b64 returns bytes as a JWK has them.
func b64(data []byte) string { return base64.RawURLEncoding.EncodeToString(data) }

// rsaJWK returns a public key as a member of a JWK set, with more members.
func rsaJWK(key *rsa.PublicKey, more string) string {
	return fmt.Sprintf(`{"kty":"RSA","n":%q,"e":"AQAB"%s}`, b64(key.N.Bytes()), more)
}

func edJWK(key ed25519.PrivateKey, more string) string {
	return fmt.Sprintf(`{"kty":"OKP","crv":"Ed25519","x":%q%s}`, b64(key.Public().(ed25519.PublicKey)), more)
}

func octJWK(secret []byte, more string) string {
	return fmt.Sprintf(`{"kty":"oct","k":%q%s}`, b64(secret), more)
}

func jwks(members ...string) []byte {
	return []byte(`{"keys":[` + strings.Join(members, ",") + `]}`)
}

// verifierOf returns a Verifier of tokens signed with keys that a parser returns.
func verifierOf(t testing.TB, keys []Key, err error) *Verifier {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return NewVerifierOf(func() []Key { return keys })
}

// parsed returns the keys of a file.
func parsed(t testing.TB, parse func([]byte) ([]Key, error), data []byte) *Verifier {
	t.Helper()
	keys, err := parse(data)
	return verifierOf(t, keys, err)
}

func TestTokensOfTrustedKeysAreAccepted(t *testing.T) {
	ed := newKey(t, 1)
	set := parsed(t, parseJWKS, jwks(
		edJWK(ed, `,"kid":"e","use":"sig","alg":"EdDSA"`), rsaJWK(&rsaKey().PublicKey, `,"kid":"r","key_ops":["verify"]`),
		octJWK(secret, `,"kid":"o"`), rsaJWK(&rsaOther().PublicKey, `,"kid":"r2"`)))
	for name, test := range map[string]struct {
		v     *Verifier
		token string
	}{
		"HS256":                {parsed(t, parseHS256, secret), sign(t, jwt.SigningMethodHS256, secret, "", good())},
		"HS256, a line":        {parsed(t, parseHS256, append(secret[:32:32], "\r\n"...)), sign(t, jwt.SigningMethodHS256, secret, "", good())},
		"HS256, a kid":         {parsed(t, parseHS256, secret), sign(t, jwt.SigningMethodHS256, secret, "whatever", good())},
		"RS256":                {parsed(t, parseRS256, publicPEM(t, rsaKey().Public())), sign(t, jwt.SigningMethodRS256, rsaKey(), "", good())},
		"RS256, a kid":         {parsed(t, parseRS256, publicPEM(t, rsaKey().Public())), sign(t, jwt.SigningMethodRS256, rsaKey(), "r", good())},
		"set, EdDSA":           {set, sign(t, jwt.SigningMethodEdDSA, ed, "e", good())},
		"set, EdDSA, no kid":   {set, sign(t, jwt.SigningMethodEdDSA, ed, "", good())},
		"set, RS256":           {set, sign(t, jwt.SigningMethodRS256, rsaKey(), "r", good())},
		"set, RS256, no kid":   {set, sign(t, jwt.SigningMethodRS256, rsaKey(), "", good())},
		"set, the second RSA":  {set, sign(t, jwt.SigningMethodRS256, rsaOther(), "r2", good())},
		"set, second, no kid":  {set, sign(t, jwt.SigningMethodRS256, rsaOther(), "", good())},
		"set, HS256":           {set, sign(t, jwt.SigningMethodHS256, secret, "o", good())},
		"set, key without kid": {parsed(t, parseJWKS, jwks(rsaJWK(&rsaKey().PublicKey, ""))), sign(t, jwt.SigningMethodRS256, rsaKey(), "r", good())},
	} {
		if id, err := test.v.Verify(test.token, now); err != nil || id.User != "alice" || id.Device != "phone" {
			t.Errorf("%s: %+v, %v", name, id, err)
		}
	}
}

func TestKeyDecidesTheAlgorithm(t *testing.T) {
	ed := newKey(t, 1)
	public := ed.Public().(ed25519.PublicKey)
	text := publicPEM(t, rsaKey().Public())
	pkcs1 := x509.MarshalPKCS1PublicKey(&rsaKey().PublicKey)
	rs := parsed(t, parseRS256, text)
	hs := parsed(t, parseHS256, secret)
	set := parsed(t, parseJWKS, jwks(edJWK(ed, `,"kid":"e"`), rsaJWK(&rsaKey().PublicKey, `,"kid":"r"`), octJWK(secret, `,"kid":"o"`)))
	none := sign(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, "", good())
	for name, test := range map[string]struct {
		v     *Verifier
		token string
	}{
		"alg none, HS256":                  {hs, none},
		"alg none, RS256":                  {rs, none},
		"alg none, set":                    {set, none},
		"the public key's PEM as a secret": {rs, sign(t, jwt.SigningMethodHS256, text, "", good())},
		"the public key's DER as a secret": {rs, sign(t, jwt.SigningMethodHS256, pkcs1, "", good())},
		"the modulus as a secret":          {rs, sign(t, jwt.SigningMethodHS256, rsaKey().N.Bytes(), "", good())},
		"set, the PEM as a secret":         {set, sign(t, jwt.SigningMethodHS256, text, "r", good())},
		"set, the modulus as a secret":     {set, sign(t, jwt.SigningMethodHS256, rsaKey().N.Bytes(), "r", good())},
		"set, an Ed25519 key as a secret":  {set, sign(t, jwt.SigningMethodHS256, []byte(public), "e", good())},
		"own key as a secret":              {NewVerifier(public), sign(t, jwt.SigningMethodHS256, []byte(public), "", good())},
		"the secret as a seed":             {hs, sign(t, jwt.SigningMethodEdDSA, ed25519.NewKeyFromSeed(secret), "", good())},
		"HS512 by the secret":              {hs, sign(t, jwt.SigningMethodHS512, secret, "", good())},
		"RS512 by the RSA key":             {rs, sign(t, jwt.SigningMethodRS512, rsaKey(), "", good())},
		"PS256 by the RSA key":             {set, sign(t, jwt.SigningMethodPS256, rsaKey(), "r", good())},
		"kid of a key of another type":     {set, sign(t, jwt.SigningMethodRS256, rsaKey(), "o", good())},
		"kid that nobody has":              {set, sign(t, jwt.SigningMethodRS256, rsaKey(), "x", good())},
		"another RSA key":                  {rs, sign(t, jwt.SigningMethodRS256, rsaOther(), "", good())},
		"another secret":                   {hs, sign(t, jwt.SigningMethodHS256, append(secret, 'x'), "", good())},
		"no keys":                          {parsed(t, parseJWKS, jwks()), sign(t, jwt.SigningMethodRS256, rsaKey(), "", good())},
	} {
		if id, err := test.v.Verify(test.token, now); !errors.Is(err, ErrBadToken) {
			t.Errorf("%s: %+v, %v, want ErrBadToken", name, id, err)
		}
	}
}

func TestClaimsAreCheckedWhateverTheKey(t *testing.T) {
	hs := parsed(t, parseHS256, secret)
	for name, test := range map[string]struct {
		claim string
		value any
		want  error
	}{
		"no expiry":     {"exp", nil, ErrBadToken},
		"expired":       {"exp", now.Add(-time.Second).Unix(), ErrExpired},
		"no user":       {"sub", nil, ErrBadToken},
		"no device":     {"dev", nil, ErrBadToken},
		"not valid yet": {"nbf", now.Add(time.Minute).Unix(), ErrBadToken},
		"valid already": {"nbf", now.Unix(), nil},
		"id no text":    {"jti", 7, ErrBadToken},
	} {
		c := good()
		if c[test.claim] = test.value; test.value == nil {
			delete(c, test.claim)
		}
		if _, err := hs.Verify(sign(t, jwt.SigningMethodHS256, secret, "", c), now); !errors.Is(err, test.want) {
			t.Errorf("%s: %v, want %v", name, err, test.want)
		}
	}
	token := jwt.NewWithClaims(jwt.SigningMethodHS256, good())
	token.Header["crit"] = []string{"b64"}
	text, err := token.SignedString(secret)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := hs.Verify(text, now); !errors.Is(err, ErrBadToken) {
		t.Errorf("a header that wants more: %v, want ErrBadToken", err)
	}
}

func TestTokenHasOneText(t *testing.T) {
	v := verifier(newKey(t, 1))
	token, err := Sign(newKey(t, 1), Identity{User: "alice", Device: "phone", Expires: now.Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	last := token[len(token)-1]
	for name, other := range map[string]string{
		"a line break at the end":    token + "\n",
		"a line break in the middle": token[:len(token)-9] + "\r\n" + token[len(token)-9:],
		"bits that nobody reads":     token[:len(token)-1] + string(rune(last+1)),
		"padding":                    token + "==",
	} {
		if _, err := v.Verify(other, now); !errors.Is(err, ErrBadToken) {
			t.Errorf("%s: %v, want ErrBadToken: its id would be another one", name, err)
		}
		if _, err := Peek(other); !errors.Is(err, ErrBadToken) {
			t.Errorf("%s: Peek says %v, want ErrBadToken", name, err)
		}
	}
}

func TestTokenHasAnIDByWhichItCanBeRevoked(t *testing.T) {
	hs := parsed(t, parseHS256, secret)
	for _, jti := range []any{nil, "", "two words", "a#b", "a\nb", strings.Repeat("x", 129), "eyJ.a.b", "good-1"} {
		c := good()
		if jti != nil {
			c["jti"] = jti
		}
		token := sign(t, jwt.SigningMethodHS256, secret, "", c)
		id, err := hs.Verify(token, now)
		if err != nil {
			t.Fatal(err)
		}
		if own := jti == "good-1"; own != (id.ID == jti) || own == (strings.HasPrefix(id.ID, "sha256:") && len(id.ID) == 71) {
			t.Errorf("jti %q: id %q", jti, id.ID)
		}
		if err := CheckID(id.ID); err != nil {
			t.Errorf("jti %q: id %q: %v", jti, id.ID, err)
		}
		if peeked, err := Peek(token); err != nil || peeked.ID != id.ID {
			t.Errorf("jti %q: its holder knows it as %q, %v, the server as %q", jti, peeked.ID, err, id.ID)
		}
	}
}

func TestSignedTokenSaysItsIDAndTheTimeOfItsIssue(t *testing.T) {
	key := newKey(t, 1)
	want := Identity{User: "alice", Device: "phone", Expires: now.Add(time.Hour), ID: "mine", Issued: now}
	token, err := Sign(key, want)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := verifier(key).Verify(token, now); err != nil || got.ID != want.ID || !got.Issued.Equal(now) {
		t.Errorf("%+v, %v, want %+v", got, err, want)
	}
	want.ID, want.Issued = "", time.Time{}
	if token, err = Sign(key, want); err != nil {
		t.Fatal(err)
	}
	if got, err := verifier(key).Verify(token, now); err != nil || !strings.HasPrefix(got.ID, "sha256:") || !got.Issued.IsZero() {
		t.Errorf("%+v, %v, want an id made of the text, and no time", got, err)
	}
}

func TestWrongKeysSayWhatWouldBeRight(t *testing.T) {
	private, err := x509.MarshalPKCS8PrivateKey(rsaKey())
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		parse func([]byte) ([]Key, error)
		data  []byte
		want  string
	}{
		"short secret":       {parseHS256, []byte("short\n"), "the secret has 5 bytes, want at least 32"},
		"PEM as a secret":    {parseHS256, publicPEM(t, rsaKey().Public()), "this is a key in PEM"},
		"no PEM":             {parseRS256, []byte("nonsense"), "not a PUBLIC KEY in PEM"},
		"private key":        {parseRS256, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), "openssl pkey -pubout"},
		"Ed25519 as RSA":     {parseRS256, publicPEM(t, newKey(t, 1).Public()), "want an RSA key"},
		"short RSA":          {parseRS256, publicPEM(t, rsaShort().Public()), "1024 bits, want at least 2048"},
		"nonsense in PEM":    {parseRS256, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: []byte("x")}), "asn1"},
		"no JSON":            {parseJWKS, []byte("nonsense"), "not a JWK set"},
		"a key, no set":      {parseJWKS, []byte(rsaJWK(&rsaKey().PublicKey, "")), `want {"keys": [...]}`},
		"short RSA in a set": {parseJWKS, jwks(octJWK(secret, ""), rsaJWK(&rsaShort().PublicKey, `,"kid":"r"`)), `key 2 of the set (kid "r"): the RSA key has 1024 bits`},
		"short secret, set":  {parseJWKS, jwks(octJWK([]byte("short"), "")), "the secret has 5 bytes"},
		"PEM as oct":         {parseJWKS, jwks(octJWK(publicPEM(t, rsaKey().Public()), "")), "this is a key in PEM"},
		"no modulus":         {parseJWKS, jwks(`{"kty":"RSA","e":"AQAB"}`), "n is missing"},
		"even exponent":      {parseJWKS, jwks(fmt.Sprintf(`{"kty":"RSA","n":%q,"e":"Ag"}`, b64(rsaKey().N.Bytes()))), "e is not the exponent"},
		"no secret":          {parseJWKS, jwks(`{"kty":"oct"}`), "k is missing"},
		"padding":            {parseJWKS, jwks(`{"kty":"OKP","crv":"Ed25519","x":"AA=="}`), "x is not base64url"},
		"short Ed25519":      {parseJWKS, jwks(`{"kty":"OKP","crv":"Ed25519","x":"AA"}`), "x has 1 bytes, want 32"},
		"none of use":        {parseJWKS, jwks(`{"kty":"EC","crv":"P-256"}`, octJWK(secret, `,"use":"enc"`)), "no key of the set"},
	} {
		if _, err := test.parse(test.data); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
	}
}

func TestKeysOfASetThatAreForSomethingElseAreSkipped(t *testing.T) {
	keys, err := parseJWKS(jwks(
		`{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}`, `{"kty":"new"}`, `{"kty":"OKP","crv":"X25519","x":"AA"}`,
		rsaJWK(&rsaKey().PublicKey, `,"use":"enc"`), rsaJWK(&rsaKey().PublicKey, `,"alg":"PS256"`), rsaJWK(&rsaKey().PublicKey, `,"key_ops":["encrypt"]`),
		edJWK(newKey(t, 1), `,"kid":"mine"`)))
	if err != nil || len(keys) != 1 || keys[0].Algorithm() != "EdDSA" || keys[0].id != "mine" {
		t.Errorf("%d keys, %v, want the last one", len(keys), err)
	}
}

func TestOwnKeyAndTrustedOnesChangeWhileTheVerifierRuns(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, secret, 0o600); err != nil {
		t.Fatal(err)
	}
	w, err := WatchHS256(path)
	if err != nil {
		t.Fatal(err)
	}
	v := NewVerifierOf(w.Get)
	other := []byte(strings.Repeat("x", 32))
	if err := os.WriteFile(path, other, 0o600); err != nil {
		t.Fatal(err)
	}
	token := sign(t, jwt.SigningMethodHS256, other, "", good())
	if _, err := v.Verify(token, now); !errors.Is(err, ErrBadToken) {
		t.Errorf("before it was read: %v", err)
	}
	if _, err := w.read(); err != nil {
		t.Fatal(err)
	}
	if _, err := v.Verify(token, now); err != nil {
		t.Errorf("after it was read: %v", err)
	}
}

func FuzzJWKS(f *testing.F) {
	n := new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), minRSA), big.NewInt(1)) // the same in each process
	f.Add(jwks(edJWK(newKey(f, 1), `,"kid":"e"`), rsaJWK(&rsa.PublicKey{N: n}, `,"use":"sig"`), octJWK(secret, "")))
	f.Add(jwks(`{"kty":"EC"}`, octJWK(secret, "")))
	f.Add([]byte(`{"keys":[]}`))
	forged := b64([]byte(`{"alg":"RS256"}`)) + ".e30." + b64(make([]byte, minRSA/8))
	f.Fuzz(func(t *testing.T, data []byte) {
		keys, err := parseJWKS(data)
		if err != nil {
			return
		}
		for _, k := range keys {
			switch key := k.key.(type) {
			case ed25519.PublicKey:
				if k.alg != algEdDSA || len(key) != ed25519.PublicKeySize {
					t.Errorf("%s with %d bytes of Ed25519", k.alg, len(key))
				}
			case *rsa.PublicKey:
				if k.alg != algRS256 || key.N.BitLen() < minRSA {
					t.Errorf("%s with RSA of %d bits", k.alg, key.N.BitLen())
				}
			case []byte:
				if k.alg != algHS256 || len(key) < minSecret {
					t.Errorf("%s with a secret of %d bytes", k.alg, len(key))
				}
			default:
				t.Errorf("%s with a %T", k.alg, key)
			}
		}
		if id, err := verifierOf(t, keys, nil).Verify(forged, now); err == nil {
			t.Errorf("a forged token speaks for %+v", id)
		}
	})
}
