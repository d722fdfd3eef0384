// Google's own in-memory Pub/Sub server (pstest) on a port of loopback, with what it lacks of the service:
// a subscription may go back in time to what its topic still has, a pull answers as soon as there is something,
// and messages may have 10 MB.
package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"regexp"
	"sync"
	"time"

	pb "cloud.google.com/go/pubsub/apiv1/pubsubpb"
	"cloud.google.com/go/pubsub/pstest"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

const (
	again     = "again" // the ack id of what is delivered again after a seek
	pageBytes = 10_000_000
	longPull  = time.Second
)

var wanted = regexp.MustCompile(`^attributes\.(\w+) = "([^"]*)"$`)

type server struct {
	*pstest.GServer
	whole  *pstest.Server
	mutex  sync.Mutex
	replay map[string][]*pb.ReceivedMessage
}

// Seek to a time in the past: pstest delivers empty messages, of all topics.
func (s *server) Seek(ctx context.Context, req *pb.SeekRequest) (*pb.SeekResponse, error) {
	target := req.GetTime()
	if target == nil {
		return nil, status.Error(codes.Unimplemented, "only to a time")
	}
	sub, err := s.GetSubscription(ctx, &pb.GetSubscriptionRequest{Subscription: req.Subscription})
	if err != nil {
		return nil, err
	}
	filter := wanted.FindStringSubmatch(sub.Filter)
	if filter == nil && sub.Filter != "" {
		return nil, status.Error(codes.Unimplemented, "only filters on one attribute")
	}
	var found []*pb.ReceivedMessage
	for _, m := range s.whole.Messages() {
		if m.Topic != sub.Topic || m.PublishTime.Before(target.AsTime()) {
			continue
		}
		if filter != nil && m.Attributes[filter[1]] != filter[2] {
			continue
		}
		found = append(found, &pb.ReceivedMessage{AckId: again, Message: &pb.PubsubMessage{
			Data: m.Data, Attributes: m.Attributes, MessageId: m.ID, PublishTime: timestamppb.New(m.PublishTime),
			OrderingKey: m.OrderingKey,
		}})
	}
	s.mutex.Lock()
	s.replay[req.Subscription] = found
	s.mutex.Unlock()
	return &pb.SeekResponse{}, nil
}

func (s *server) Pull(ctx context.Context, req *pb.PullRequest) (*pb.PullResponse, error) {
	if page := s.replayed(req.Subscription, int(req.MaxMessages)); page != nil {
		return &pb.PullResponse{ReceivedMessages: page}, nil
	}
	ended := time.Now().Add(longPull)
	req.ReturnImmediately = true
	for {
		answer, err := s.GServer.Pull(ctx, req)
		if err != nil || len(answer.ReceivedMessages) > 0 || time.Now().After(ended) {
			return answer, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func (s *server) replayed(name string, most int) []*pb.ReceivedMessage {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	left := s.replay[name]
	count, size := 0, 0
	for count < len(left) && count < most && size < pageBytes {
		size += len(left[count].Message.Data)
		count++
	}
	s.replay[name] = left[count:]
	if count == 0 {
		return nil
	}
	return left[:count]
}

func (s *server) Acknowledge(ctx context.Context, req *pb.AcknowledgeRequest) (*emptypb.Empty, error) {
	var ids []string
	for _, id := range req.AckIds {
		if id != again {
			ids = append(ids, id)
		}
	}
	return s.GServer.Acknowledge(ctx, &pb.AcknowledgeRequest{Subscription: req.Subscription, AckIds: ids})
}

func main() {
	listener, err := net.Listen("tcp", "127.0.0.1:"+os.Args[1])
	if err != nil {
		panic(err)
	}
	whole := pstest.NewServer()
	ours := &server{GServer: &whole.GServer, whole: whole, replay: map[string][]*pb.ReceivedMessage{}}
	front := grpc.NewServer(grpc.MaxRecvMsgSize(4*pageBytes), grpc.MaxSendMsgSize(16*pageBytes))
	pb.RegisterPublisherServer(front, ours)
	pb.RegisterSubscriberServer(front, ours)
	fmt.Println("listening on", listener.Addr())
	if err := front.Serve(listener); err != nil {
		panic(err)
	}
}
