// An OpenID provider for tests: the library of a certified one with its own example of users and login page, over TLS with
// an authority made at the start. It prints a line once it serves.
package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"flag"
	"fmt"
	"log"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/zitadel/oidc/v3/example/server/exampleop"
	"github.com/zitadel/oidc/v3/example/server/storage"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:0", "where to serve")
	authority := flag.String("authority", "", "the file to write the authority to, in PEM")
	client := flag.String("client", "", "the id of the client")
	secret := flag.String("secret", "", "its secret; a client without one is public")
	redirect := flag.String("redirect", "", "where people are sent back to")
	flag.Parse()

	listener, err := net.Listen("tcp", *listen)
	check(err)
	certificate := certificate(*authority)
	issuer := "https://" + listener.Addr().String()
	if *secret == "" {
		storage.RegisterClients(storage.NativeClient(*client, *redirect))
	} else {
		storage.RegisterClients(storage.WebClient(*client, *secret, *redirect))
	}
	users := storage.NewStorage(storage.NewUserStore(issuer))
	handler := exampleop.SetupServer(issuer, users, slog.New(slog.DiscardHandler), false)
	server := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 10 * time.Second,
		TLSConfig:         &tls.Config{Certificates: []tls.Certificate{certificate}},
	}
	fmt.Println(issuer)
	log.Fatal(server.ServeTLS(listener, "", ""))
}

func certificate(file string) tls.Certificate {
	authority := template("an authority for tests")
	authority.IsCA = true
	authority.KeyUsage = x509.KeyUsageCertSign
	signer, key := key(), key()
	der, err := x509.CreateCertificate(rand.Reader, authority, authority, &signer.PublicKey, signer)
	check(err)
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	check(os.WriteFile(file, text, 0o600))
	leaf := template("a provider for tests")
	leaf.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
	leaf.KeyUsage = x509.KeyUsageDigitalSignature
	leaf.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	der, err = x509.CreateCertificate(rand.Reader, leaf, authority, &key.PublicKey, signer)
	check(err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func template(name string) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber:          big.NewInt(time.Now().UnixNano()),
		Subject:               pkix.Name{CommonName: name},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(24 * time.Hour),
		BasicConstraintsValid: true,
	}
}

func key() *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(err)
	return key
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
