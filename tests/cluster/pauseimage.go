package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
)

const pauseImage = "localhost/pause:1"

// writePauseImage makes the image of every pod's first process, an OCI archive, from the program beside this one.
func writePauseImage(file string) error {
	executable, err := os.Executable()
	if err != nil {
		return err
	}
	program, err := os.ReadFile(filepath.Join(filepath.Dir(executable), "pause"))
	if err != nil {
		return fmt.Errorf("it is built beside this binary (node tools/cluster.mjs build): %w", err)
	}
	layer := archive(entry{"pause", 0o755, program})
	digest := func(contents []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(contents)) }
	var blobs []entry
	add := func(kind string, contents []byte) object {
		blobs = append(blobs, entry{"blobs/sha256/" + digest(contents)[len("sha256:"):], 0o644, contents})
		return object{"mediaType": "application/vnd.oci.image." + kind, "digest": digest(contents), "size": len(contents)}
	}
	text := func(value object) []byte {
		contents, _ := json.Marshal(value)
		return contents
	}
	config := text(object{
		"architecture": runtime.GOARCH, "os": "linux",
		"config": object{"Entrypoint": []string{"/pause"}},
		"rootfs": object{"type": "layers", "diff_ids": []string{digest(layer)}},
	})
	manifest := add("manifest.v1+json", text(object{
		"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
		"config": add("config.v1+json", config), "layers": []object{add("layer.v1.tar", layer)},
	}))
	manifest["annotations"] = object{"io.containerd.image.name": pauseImage, "org.opencontainers.image.ref.name": "1"}
	index := text(object{"schemaVersion": 2, "manifests": []object{manifest}})
	layout := entry{"oci-layout", 0o644, []byte(`{"imageLayoutVersion":"1.0.0"}`)}
	return os.WriteFile(file, archive(append(blobs, layout, entry{"index.json", 0o644, index})...), 0o644)
}

type entry struct {
	name     string
	mode     int64
	contents []byte
}

func archive(entries ...entry) []byte {
	var buffer bytes.Buffer
	writer := tar.NewWriter(&buffer) // to memory: it cannot fail
	for _, one := range entries {
		_ = writer.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: one.name, Mode: one.mode, Size: int64(len(one.contents))})
		_, _ = writer.Write(one.contents)
	}
	_ = writer.Close()
	return buffer.Bytes()
}
