// Command image_library copies an image with the library that CRI-O, podman and skopeo pull with.
//
//	image_library docker://HOST:PORT/NAME:TAG dir:DIRECTORY
//	image_library docker://HOST:PORT/NAME@DIGEST oci:DIRECTORY
//
// All platforms of an index are copied, nothing is converted, and the registry is spoken to in plain HTTP.
// It prints the digest and the media type of what it copied.
package main

import (
	"context"
	"fmt"
	"os"
	"strings"

	"go.podman.io/image/v5/copy"
	"go.podman.io/image/v5/directory"
	"go.podman.io/image/v5/docker"
	"go.podman.io/image/v5/manifest"
	"go.podman.io/image/v5/oci/layout"
	"go.podman.io/image/v5/signature"
	"go.podman.io/image/v5/types"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: image_library SOURCE DESTINATION")
		os.Exit(2)
	}
	if err := pull(context.Background(), os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func pull(ctx context.Context, from, to string) error {
	source, err := parse(from)
	if err != nil {
		return err
	}
	destination, err := parse(to)
	if err != nil {
		return err
	}
	policy, err := signature.NewPolicyContext(&signature.Policy{
		Default: signature.PolicyRequirements{signature.NewPRInsecureAcceptAnything()},
	})
	if err != nil {
		return err
	}
	raw, err := copy.Image(ctx, policy, destination, source, &copy.Options{
		ImageListSelection: copy.CopyAllImages,
		PreserveDigests:    true,
		SourceCtx:          &types.SystemContext{DockerInsecureSkipTLSVerify: types.OptionalBoolTrue},
	})
	if err != nil {
		return err
	}
	digest, err := manifest.Digest(raw)
	fmt.Println(digest, manifest.GuessMIMEType(raw))
	return err
}

func parse(name string) (types.ImageReference, error) {
	transport, rest, _ := strings.Cut(name, ":")
	switch transport {
	case "docker":
		return docker.ParseReference(rest)
	case "dir":
		return directory.NewReference(rest)
	case "oci":
		return layout.ParseReference(rest)
	}
	return nil, fmt.Errorf("no transport %q", transport)
}
