// Command containerd_library fetches an image with the library that containerd pulls with.
//
//	containerd_library HOST:PORT/NAME:TAG DIRECTORY
//
// All platforms of an index are fetched into a content store in the directory, and the registry is spoken to in
// plain HTTP. It prints the digest and the media type of what it fetched.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/containerd/v2/plugins/content/local"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: containerd_library REFERENCE DIRECTORY")
		os.Exit(2)
	}
	if err := fetch(context.Background(), os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func fetch(ctx context.Context, reference, directory string) error {
	store, err := local.NewStore(directory)
	if err != nil {
		return err
	}
	plain := docker.WithPlainHTTP(docker.MatchAllHosts)
	resolver := docker.NewResolver(docker.ResolverOptions{Hosts: docker.ConfigureDefaultRegistries(plain)})
	name, descriptor, err := resolver.Resolve(ctx, reference)
	if err != nil {
		return err
	}
	fetcher, err := resolver.Fetcher(ctx, name)
	if err != nil {
		return err
	}
	handler := images.Handlers(remotes.FetchHandler(store, fetcher), images.ChildrenHandler(store))
	if err := images.Dispatch(ctx, handler, nil, descriptor); err != nil {
		return err
	}
	fmt.Println(descriptor.Digest, descriptor.MediaType)
	return nil
}
