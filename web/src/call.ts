/** One call: a room, a microphone, an agent. Tells its listener what happens; knows nothing of the page. */

import {
  createLocalAudioTrack,
  type LocalAudioTrack,
  type Participant,
  RemoteAudioTrack,
  type RemoteParticipant,
  type RemoteTrack,
  Room,
  RoomEvent,
  type TextStreamReader,
  Track,
  TrackEvent,
} from "livekit-client";
import { fetchAgents, fetchEntrance } from "./backend";
import { PreConnect, record, TOPIC as PRECONNECT_TOPIC } from "./preconnect";
import {
  absenceProblem,
  connectionProblem,
  disconnectProblem,
  microphoneProblem,
  type Problem,
} from "./problem";
import {
  AGENT_STATE,
  type AgentState,
  agentState,
  CHAT_TOPIC,
  INTERRUPTED,
  SEGMENT_ID,
  TRANSCRIPTION_FINAL,
  TRANSCRIPTION_TOPIC,
} from "./protocol";
import type { Ending, Transcript } from "./transcript";

export type Connection = "idle" | "connecting" | "connected" | "reconnecting";
export type Microphone = "off" | "starting" | "on" | "muted";

export interface CallListener {
  connection(state: Connection): void;
  agent(state: AgentState): void;
  microphone(state: Microphone, track: LocalAudioTrack | undefined): void;
  /** The agent's voice; `undefined` when it has ended. The track is already playing. */
  voice(track: RemoteAudioTrack | undefined): void;
  /** `audible` is false while the browser wants a click before it plays sound. */
  playback(audible: boolean): void;
  problem(problem: Problem | undefined): void;
}

const AGENT_PATIENCE = 10;
/** Of LiveKit's `AudioTrackFeature`, which its client does not hand out: a recording of this track is to be expected. */
const TF_PRECONNECT_BUFFER = 6;

export class Call {
  readonly #room = new Room();
  readonly #players = new Set<HTMLMediaElement>();
  #connection: Connection = "idle";
  #agent: AgentState = "absent";
  #patience: ReturnType<typeof setTimeout> | undefined;
  #track: LocalAudioTrack | undefined;
  #preConnect: PreConnect | undefined;
  #typed = 0;
  #unechoed: string[] = [];
  #absenceTold = false;
  #ended = false;

  constructor(
    private readonly listener: CallListener,
    private readonly transcript: Transcript,
    /** Where the elements that play the agent are kept. */
    private readonly stage: HTMLElement,
  ) {
    this.#room
      .on(RoomEvent.Reconnecting, () => this.#setConnection("reconnecting"))
      .on(RoomEvent.SignalReconnecting, () => this.#setConnection("reconnecting"))
      .on(RoomEvent.Reconnected, () => this.#setConnection("connected"))
      .on(RoomEvent.Disconnected, (reason) => this.#finish(disconnectProblem(reason)))
      .on(RoomEvent.ParticipantConnected, (participant) => this.#observe(participant))
      .on(RoomEvent.ParticipantActive, (participant) => this.#observe(participant))
      .on(RoomEvent.ParticipantAttributesChanged, (_, participant) => this.#observe(participant))
      .on(RoomEvent.ParticipantDisconnected, (participant) => this.#part(participant))
      .on(RoomEvent.LocalTrackSubscribed, ({ source }) => {
        if (source === Track.Source.Microphone) this.#preConnect?.listenedTo();
      })
      .on(RoomEvent.TrackSubscribed, (track, _, participant) => this.#play(track, participant))
      .on(RoomEvent.TrackUnsubscribed, (track) => this.#silence(track))
      .on(RoomEvent.AudioPlaybackStatusChanged, () => listener.playback(this.#room.canPlaybackAudio));
    this.#room.registerTextStreamHandler(TRANSCRIPTION_TOPIC, (reader, sender) => {
      void this.#read(reader, sender.identity);
    });
  }

  /** Join a fresh room that `agent` is called to. Call it from a click: browsers start sound only then. */
  async start(agent: string): Promise<void> {
    this.#setConnection("connecting");
    let server = "the media server";
    try {
      // The microphone starts first and is recorded: what is said before the agent has come reaches it all the same.
      void this.startMicrophone();
      const entrance = await fetchEntrance(agent);
      server = entrance.url;
      await this.#room.connect(entrance.url, entrance.token);
      if (this.#ended) return;
      // From here on a microphone that is granted late publishes itself.
      this.#setConnection("connected");
      this.listener.playback(this.#room.canPlaybackAudio);
      this.#patience = setTimeout(() => void this.#explainAbsence(), AGENT_PATIENCE * 1000);
      for (const participant of this.#room.remoteParticipants.values()) this.#observe(participant);
      if (this.#track) await this.#publish(this.#track);
    } catch (error) {
      if (!this.#ended) this.#finish(connectionProblem(error, server));
    }
  }

  /** Ask for the microphone (again). A refusal leaves the call going: one can type. Never rejects. */
  async startMicrophone(): Promise<void> {
    this.listener.microphone("starting", undefined);
    try {
      const track = await createLocalAudioTrack({
        echoCancellation: true,
        noiseSuppression: true,
        autoGainControl: true,
      });
      if (this.#ended) {
        track.stop();
        return;
      }
      this.#track = track;
      if (!this.#agentIsHere()) this.#preConnect = recorded(track);
      this.listener.microphone("on", track);
      if (this.#connection === "connected") await this.#publish(track);
    } catch (error) {
      if (this.#ended) return;
      this.#track?.stop();
      this.#track = undefined;
      this.listener.microphone("off", undefined);
      this.listener.problem(microphoneProblem(error));
    }
  }

  async toggleMicrophone(): Promise<void> {
    if (this.#ended) return;
    if (this.#track === undefined) {
      this.listener.problem(undefined);
      await this.startMicrophone();
      return;
    }
    const track = this.#track;
    if (track.isMuted) await track.unmute();
    else await track.mute();
    this.listener.microphone(track.isMuted ? "muted" : "on", track);
  }

  /** Say it in writing. Rejects when the room cannot take it now. */
  async type(text: string): Promise<void> {
    this.#unechoed.push(text);
    await this.#room.localParticipant.sendText(text, { topic: CHAT_TOPIC });
    this.transcript.add(`typed-${++this.#typed}`, "user", text, { final: true });
  }

  startPlayback(): Promise<void> {
    return this.#room.startAudio();
  }

  hangUp(): void {
    this.#finish(undefined);
  }

  async #publish(track: LocalAudioTrack): Promise<void> {
    if (this.#room.localParticipant.getTrackPublication(Track.Source.Microphone)) return;
    await this.#room.localParticipant.publishTrack(track, { source: Track.Source.Microphone });
    this.#catchUp();
  }

  /** Send what was said so far to the agent, once both it and the track are there. */
  #catchUp(): void {
    const { localParticipant, remoteParticipants } = this.#room;
    const agent = [...remoteParticipants.values()].find((participant) => participant.isAgent && participant.isActive);
    const publication = localParticipant.getTrackPublication(Track.Source.Microphone);
    const preConnect = this.#preConnect;
    if (agent === undefined || publication?.track === undefined || preConnect === undefined) return;
    const { sampleRate, channelCount } = publication.track.mediaStreamTrack.getSettings();
    void preConnect.send(() =>
      localParticipant.streamBytes({
        name: "preconnect-buffer",
        topic: PRECONNECT_TOPIC,
        mimeType: preConnect.mimeType,
        destinationIdentities: [agent.identity],
        attributes: {
          trackId: publication.trackSid,
          sampleRate: String(sampleRate ?? 48_000),
          channels: String(channelCount ?? 1),
        },
      }),
    );
  }

  #setConnection(state: Connection): void {
    if (this.#ended || this.#connection === state) return;
    this.#connection = state;
    this.listener.connection(state);
  }

  #setAgent(state: AgentState): void {
    if (this.#ended || this.#agent === state) return;
    this.#agent = state;
    this.listener.agent(state);
  }

  #agentIsHere(): boolean {
    return this.#agent !== "absent" && this.#agent !== "gone";
  }

  #observe(participant: Participant): void {
    if (!participant.isAgent || participant.isLocal) return;
    if (!this.#agentIsHere()) {
      clearTimeout(this.#patience);
      if (this.#absenceTold) this.listener.problem(undefined);
      this.#absenceTold = false;
    }
    this.#setAgent(agentState(participant.attributes[AGENT_STATE]));
    this.#catchUp();
  }

  #part(participant: RemoteParticipant): void {
    if (!participant.isAgent) return;
    if ([...this.#room.remoteParticipants.values()].some((other) => other.isAgent && other !== participant)) return;
    this.#setAgent("gone");
  }

  #play(track: RemoteTrack, participant: RemoteParticipant): void {
    if (!(track instanceof RemoteAudioTrack)) return;
    const player = track.attach();
    player.dataset.role = "agent-audio";
    this.#players.add(player);
    this.stage.append(player);
    if (participant.isAgent && track.source === Track.Source.Microphone) this.listener.voice(track);
  }

  #silence(track: RemoteTrack): void {
    for (const player of track.detach()) {
      this.#players.delete(player);
      player.remove();
    }
    if (track.source === Track.Source.Microphone) this.listener.voice(undefined);
  }

  async #read(reader: TextStreamReader, sender: string): Promise<void> {
    const speaker = sender === this.#room.localParticipant.identity ? "user" : "agent";
    const segment = reader.info.attributes?.[SEGMENT_ID] ?? reader.info.id;
    if (speaker === "user") {
      const text = await reader.readAll().catch(() => "");
      if (!this.#echoed(text)) this.transcript.add(segment, "user", text, this.#ending(reader));
      return;
    }
    const stream = this.transcript.open(segment, speaker);
    try {
      for await (const piece of reader) stream.append(piece);
    } catch {
      // Cut off with the connection: what has come stays.
    }
    stream.close(this.#ending(reader));
  }

  #ending(reader: TextStreamReader): Ending {
    const attributes = reader.info.attributes ?? {};
    return {
      final: attributes[TRANSCRIPTION_FINAL] === "true",
      interrupted: attributes[INTERRUPTED] === "true",
    };
  }

  /** An agent may tell what was typed as a turn of the user's, as it does with speech: it is shown already. */
  #echoed(text: string): boolean {
    const index = this.#unechoed.indexOf(text.trim());
    if (index < 0) return false;
    this.#unechoed.splice(0, index + 1);
    return true;
  }

  async #explainAbsence(): Promise<void> {
    const agents = await fetchAgents().catch(() => undefined);
    if (this.#ended || this.#agentIsHere()) return;
    this.#absenceTold = true;
    this.listener.problem(absenceProblem(agents, AGENT_PATIENCE));
  }

  #finish(problem: Problem | undefined): void {
    if (this.#ended) return;
    this.#setConnection("idle");
    this.#setAgent("absent");
    this.#ended = true;
    clearTimeout(this.#patience);
    this.#preConnect?.discard();
    this.#track?.stop();
    this.listener.microphone("off", undefined);
    this.listener.voice(undefined);
    for (const player of this.#players) player.remove();
    this.#room.unregisterTextStreamHandler(TRANSCRIPTION_TOPIC);
    void this.#room.disconnect();
    this.listener.problem(problem);
  }
}

/** Record the track. While that lasts its publication says so, and an agent waits for the recording. */
function recorded(track: LocalAudioTrack): PreConnect | undefined {
  const recording = record(track.mediaStreamTrack);
  if (recording === undefined) return undefined;
  // LiveKit's client asks the track when it publishes it, and is told when the answer changes.
  const preConnect = new PreConnect(recording, () => {
    track.emit(TrackEvent.AudioTrackFeatureUpdate, track, TF_PRECONNECT_BUFFER, false);
  });
  Object.defineProperty(track, "hasPreConnectBuffer", { get: () => preConnect.underWay });
  return preConnect;
}
