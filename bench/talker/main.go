// Command talker puts one caller into each of many rooms, who says the same Opus packets over and over.
//
// Encoding costs a caller of the SDK 10 ms of CPU for each second, and its threads 20 more: with 20 of them nothing
// would be left of a small machine for what is measured. This one sends packets that were encoded once: 50 a second
// in each room, subscribed to nothing.
//
//	talker packets.bin < rooms.json
//
// rooms.json is [[url, token], ...]. The file of packets holds, for each, its length (two bytes, big-endian) and its
// 20 ms of Opus. Prints "talking" once every room has the track, and ends with stdin.
package main

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/gorilla/websocket"
	"github.com/livekit/protocol/livekit"
	"github.com/pion/webrtc/v4"
	"github.com/pion/webrtc/v4/pkg/media"
	"google.golang.org/protobuf/proto"
)

const (
	packetTime  = 20 * time.Millisecond
	joinTimeout = 15 * time.Second
	pingEvery   = 5 * time.Second
)

type caller struct {
	socket *websocket.Conn
	peer   *webrtc.PeerConnection
	track  *webrtc.TrackLocalStaticSample
	write  sync.Mutex
	ready  chan struct{}
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "talker:", err)
		os.Exit(1)
	}
}

func run() error {
	packets, err := read(os.Args[1])
	if err != nil {
		return err
	}
	var rooms [][2]string
	commands := json.NewDecoder(os.Stdin)
	if err := commands.Decode(&rooms); err != nil {
		return fmt.Errorf("rooms: %w", err)
	}
	callers := make([]*caller, 0, len(rooms))
	for _, room := range rooms {
		one, err := join(room[0], room[1])
		if err != nil {
			return fmt.Errorf("join: %w", err)
		}
		callers = append(callers, one)
	}
	go talk(callers, packets)
	fmt.Println("talking")
	_, _ = io.Copy(io.Discard, os.Stdin)
	for _, one := range callers {
		_ = one.tell(&livekit.SignalRequest{Message: &livekit.SignalRequest_Leave{Leave: &livekit.LeaveRequest{}}})
		_ = one.peer.Close()
		_ = one.socket.Close()
	}
	return nil
}

func read(path string) ([][]byte, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var packets [][]byte
	for len(data) >= 2 {
		size := int(binary.BigEndian.Uint16(data))
		if len(data) < 2+size {
			break
		}
		packets = append(packets, data[2:2+size])
		data = data[2+size:]
	}
	if len(packets) == 0 {
		return nil, fmt.Errorf("%s holds no packets", path)
	}
	return packets, nil
}

// talk sends one packet in each room every 20 ms. The rooms are spread over these 20 ms, as callers would be.
func talk(callers []*caller, packets [][]byte) {
	began := time.Now()
	for number := 0; ; number++ {
		for index, one := range callers {
			due := time.Duration(number)*packetTime + time.Duration(index)*packetTime/time.Duration(len(callers))
			time.Sleep(time.Until(began.Add(due)))
			sample := media.Sample{Data: packets[number%len(packets)], Duration: packetTime}
			if err := one.track.WriteSample(sample); err != nil {
				return
			}
		}
	}
}

func join(url, token string) (*caller, error) {
	address := url + "/rtc?protocol=15&sdk=go&version=2.0.0&auto_subscribe=0&access_token=" + token
	socket, _, err := websocket.DefaultDialer.Dial(address, nil)
	if err != nil {
		return nil, err
	}
	one := &caller{socket: socket, ready: make(chan struct{})}
	if err := one.publish(); err != nil {
		return nil, err
	}
	go one.listen()
	go one.ping()
	select {
	case <-one.ready:
		return one, nil
	case <-time.After(joinTimeout):
		return nil, fmt.Errorf("not connected within %s", joinTimeout)
	}
}

func (c *caller) publish() error {
	peer, err := webrtc.NewPeerConnection(webrtc.Configuration{})
	if err != nil {
		return err
	}
	c.peer = peer
	format := webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeOpus, ClockRate: 48000, Channels: 2}
	if c.track, err = webrtc.NewTrackLocalStaticSample(format, "voice", "voice"); err != nil {
		return err
	}
	if _, err = peer.AddTransceiverFromTrack(c.track,
		webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionSendonly}); err != nil {
		return err
	}
	// LiveKit's clients open these two; the server waits for them.
	for _, label := range []string{"_reliable", "_lossy"} {
		if _, err = peer.CreateDataChannel(label, nil); err != nil {
			return err
		}
	}
	peer.OnICECandidate(func(candidate *webrtc.ICECandidate) {
		if candidate != nil {
			told, _ := json.Marshal(candidate.ToJSON())
			_ = c.tell(&livekit.SignalRequest{Message: &livekit.SignalRequest_Trickle{Trickle: &livekit.TrickleRequest{
				CandidateInit: string(told), Target: livekit.SignalTarget_PUBLISHER}}})
		}
	})
	peer.OnConnectionStateChange(func(state webrtc.PeerConnectionState) {
		if state == webrtc.PeerConnectionStateConnected {
			close(c.ready)
		}
	})
	return c.tell(&livekit.SignalRequest{Message: &livekit.SignalRequest_AddTrack{AddTrack: &livekit.AddTrackRequest{
		Cid: c.track.ID(), Name: "voice", Type: livekit.TrackType_AUDIO, Source: livekit.TrackSource_MICROPHONE,
		DisableDtx: true, DisableRed: true}}})
}

func (c *caller) listen() {
	for {
		_, data, err := c.socket.ReadMessage()
		if err != nil {
			return
		}
		var answer livekit.SignalResponse
		if err := proto.Unmarshal(data, &answer); err != nil {
			continue
		}
		switch told := answer.Message.(type) {
		case *livekit.SignalResponse_TrackPublished:
			err = c.offer()
		case *livekit.SignalResponse_Answer:
			err = c.peer.SetRemoteDescription(webrtc.SessionDescription{
				Type: webrtc.SDPTypeAnswer, SDP: told.Answer.Sdp})
		case *livekit.SignalResponse_Trickle:
			var candidate webrtc.ICECandidateInit
			if told.Trickle.Target == livekit.SignalTarget_PUBLISHER &&
				json.Unmarshal([]byte(told.Trickle.CandidateInit), &candidate) == nil {
				_ = c.peer.AddICECandidate(candidate)
			}
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "talker:", err)
		}
	}
}

func (c *caller) offer() error {
	offer, err := c.peer.CreateOffer(nil)
	if err != nil {
		return err
	}
	if err := c.peer.SetLocalDescription(offer); err != nil {
		return err
	}
	return c.tell(&livekit.SignalRequest{Message: &livekit.SignalRequest_Offer{Offer: &livekit.SessionDescription{
		Type: "offer", Sdp: offer.SDP}}})
}

func (c *caller) ping() {
	for range time.Tick(pingEvery) {
		if c.tell(&livekit.SignalRequest{Message: &livekit.SignalRequest_Ping{Ping: time.Now().UnixMilli()}}) != nil {
			return
		}
	}
}

func (c *caller) tell(request *livekit.SignalRequest) error {
	data, err := proto.Marshal(request)
	if err != nil {
		return err
	}
	c.write.Lock()
	defer c.write.Unlock()
	return c.socket.WriteMessage(websocket.BinaryMessage, data)
}
