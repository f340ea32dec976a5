// Reads and makes tlog-tiles logs with Go's own checksum-database packages, which know nothing of Glassbloom.
//
//	sumdb check PREFIX VKEY INDEX,... SIZE,...   verifies a log over HTTP; prints what it proved
//	sumdb make DIR ORIGIN SIZE                   makes a log of that size in a folder; prints its vkey
package main

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// height is that of C2SP's tiles: 256 hashes.
const height = 8

func main() {
	log.SetFlags(0)
	args := os.Args[1:]
	switch {
	case len(args) == 5 && args[0] == "check":
		check(args[1], args[2], numbers(args[3]), numbers(args[4]))
	case len(args) == 4 && args[0] == "make":
		makeLog(args[1], args[2], numbers(args[3])[0])
	default:
		log.Fatal("usage: sumdb check PREFIX VKEY INDEX,... SIZE,... | sumdb make DIR ORIGIN SIZE")
	}
}

type head struct {
	Origin string `json:"origin"`
	Size   int64  `json:"size"`
	Root   string `json:"root"`
}

type record struct {
	Index int64    `json:"index"`
	Entry string   `json:"entry"`
	Proof []string `json:"proof"`
}

type tree struct {
	Size  int64    `json:"size"`
	Root  string   `json:"root"`
	Proof []string `json:"proof"`
}

type report struct {
	Head    head     `json:"head"`
	Signer  string   `json:"signer"`
	Records []record `json:"records"`
	Trees   []tree   `json:"trees"`
}

// server reads tiles by HTTP. The packages name them tile/8/L/N; tlog-tiles leaves the height out.
type server struct{ prefix string }

func (s server) Height() int                                { return height }
func (s server) SaveTiles(tiles []tlog.Tile, data [][]byte) {}

func (s server) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	data := make([][]byte, len(tiles))
	for i, t := range tiles {
		var err error
		if data[i], err = s.get(c2spPath(t)); err != nil {
			return nil, err
		}
	}
	return data, nil
}

func (s server) get(path string) ([]byte, error) {
	reply, err := http.Get(s.prefix + "/" + path)
	if err != nil {
		return nil, err
	}
	defer reply.Body.Close()
	if reply.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", path, reply.Status)
	}
	return io.ReadAll(io.LimitReader(reply.Body, 32<<20))
}

func c2spPath(t tlog.Tile) string {
	path := strings.TrimPrefix(t.Path(), fmt.Sprintf("tile/%d/", height))
	return "tile/" + strings.Replace(path, "data/", "entries/", 1)
}

func check(prefix, vkey string, indexes, sizes []int64) {
	s := server{prefix}
	message, err := s.get("checkpoint")
	must(err)
	verifier, err := note.NewVerifier(vkey)
	must(err)
	opened, err := note.Open(message, note.VerifierList(verifier))
	must(err)
	lines := strings.Split(opened.Text, "\n")
	if len(lines) != 4 {
		log.Fatalf("%d lines in a checkpoint", len(lines)-1)
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	must(err)
	root, err := tlog.ParseHash(lines[2])
	must(err)
	// Every tile that comes through this reader has been authenticated against the signed root.
	reader := tlog.TileHashReader(tlog.Tree{N: size, Hash: root}, s)
	out := report{Head: head{lines[0], size, lines[2]}, Signer: opened.Sigs[0].Name}
	for _, index := range indexes {
		entry := s.entry(index, size)
		proof, err := tlog.ProveRecord(size, index, reader)
		must(err)
		must(tlog.CheckRecord(proof, size, root, index, tlog.RecordHash(entry)))
		if tlog.CheckRecord(proof, size, root, index, tlog.RecordHash(append(entry, 'x'))) == nil {
			log.Fatal("an altered entry passes")
		}
		out.Records = append(out.Records, record{index, base64.StdEncoding.EncodeToString(entry), texts(proof)})
	}
	for _, old := range sizes {
		hash, err := tlog.TreeHash(old, reader)
		must(err)
		proof, err := tlog.ProveTree(size, old, reader)
		must(err)
		must(tlog.CheckTree(proof, size, root, old, hash))
		out.Trees = append(out.Trees, tree{old, hash.String(), texts(proof)})
	}
	must(json.NewEncoder(os.Stdout).Encode(out))
}

// entry reads one entry out of its bundle.
func (s server) entry(index, size int64) []byte {
	bundle := tlog.Tile{H: height, L: -1, N: index >> height, W: 1 << height}
	if rest := size - bundle.N<<height; rest < 1<<height {
		bundle.W = int(rest)
	}
	data, err := s.get(c2spPath(bundle))
	must(err)
	for at := bundle.N << height; ; at++ {
		if len(data) < 2 {
			log.Fatalf("%s ends before entry %d", c2spPath(bundle), index)
		}
		length := int(binary.BigEndian.Uint16(data))
		if at == index {
			return append([]byte(nil), data[2:2+length]...)
		}
		data = data[2+length:]
	}
}

func makeLog(folder, origin string, size int64) {
	skey, vkey, err := note.GenerateKey(rand.Reader, origin)
	must(err)
	signer, err := note.NewSigner(skey)
	must(err)
	var hashes []tlog.Hash
	stored := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		found := make([]tlog.Hash, len(indexes))
		for i, at := range indexes {
			found[i] = hashes[at]
		}
		return found, nil
	})
	entries := make([][]byte, size)
	for n := range entries {
		entries[n] = []byte(fmt.Sprintf("entry %d of a log made by Go\n", n))
		more, err := tlog.StoredHashes(int64(n), entries[n], stored)
		must(err)
		hashes = append(hashes, more...)
	}
	for _, t := range tlog.NewTiles(height, 0, size) {
		data, err := tlog.ReadTileData(t, stored)
		must(err)
		write(folder, c2spPath(t), data)
		if t.L == 0 {
			var bundle []byte
			for _, entry := range entries[t.N<<height : t.N<<height+int64(t.W)] {
				bundle = append(bundle, byte(len(entry)>>8), byte(len(entry)))
				bundle = append(bundle, entry...)
			}
			t.L = -1
			write(folder, c2spPath(t), bundle)
		}
	}
	root, err := tlog.TreeHash(size, stored)
	must(err)
	text := fmt.Sprintf("%s\n%d\n%s\n", origin, size, root)
	signed, err := note.Sign(&note.Note{Text: text}, signer)
	must(err)
	write(folder, "checkpoint", signed)
	fmt.Println(vkey)
}

func write(folder, path string, data []byte) {
	path = filepath.Join(folder, filepath.FromSlash(path))
	must(os.MkdirAll(filepath.Dir(path), 0o755))
	must(os.WriteFile(path, data, 0o644))
}

func texts(hashes []tlog.Hash) []string {
	out := make([]string, len(hashes))
	for i, hash := range hashes {
		out[i] = hash.String()
	}
	return out
}

func numbers(text string) []int64 {
	var out []int64
	for _, part := range strings.Split(text, ",") {
		number, err := strconv.ParseInt(part, 10, 64)
		must(err)
		out = append(out, number)
	}
	return out
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
