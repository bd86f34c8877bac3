import assert from "node:assert/strict";
import { afterEach, beforeEach, mock, test } from "node:test";
import { LONGEST_OVERLAP, OVERLAP, PATIENCE, PreConnect, type Recording, record, type Sink, type Stage } from "../src/preconnect";

/** A browser's recorder in the hands of a test. Like the real one it delivers its last bytes after `stop`. */
class FakeRecorder extends EventTarget {
  static supported = ["audio/webm;codecs=opus", "video/mp4"];
  static last: FakeRecorder | undefined;
  static isTypeSupported = (type: string) => FakeRecorder.supported.includes(type);
  state: "inactive" | "recording" = "inactive";
  timeslice = 0;
  held = "";

  constructor(
    readonly stream: unknown,
    readonly options: { mimeType: string },
  ) {
    super();
    FakeRecorder.last = this;
  }

  start(timeslice: number): void {
    this.state = "recording";
    this.timeslice = timeslice;
  }

  deliver(text: string): void {
    const buffer = new TextEncoder().encode(text).buffer;
    const data = { arrayBuffer: () => new Promise((resolve) => setImmediate(resolve, buffer)) };
    this.dispatchEvent(Object.assign(new Event("dataavailable"), { data }));
  }

  stop(): void {
    this.state = "inactive";
    this.deliver(this.held);
    this.dispatchEvent(new Event("stop"));
  }
}

class Agent implements Sink {
  received = "";
  closed = 0;
  broken = false;

  open = async (): Promise<Sink> => this;

  async write(chunk: Uint8Array): Promise<void> {
    if (this.broken) throw new Error("the connection is gone");
    this.received += new TextDecoder().decode(chunk);
  }

  async close(): Promise<void> {
    this.closed += 1;
  }
}

function recording(): { recorder: FakeRecorder; made: Recording } {
  const made = record({} as MediaStreamTrack);
  assert.ok(made && FakeRecorder.last);
  return { recorder: FakeRecorder.last, made };
}

/** All that is under way and needs no time. */
async function settled(): Promise<void> {
  for (let turn = 0; turn < 30; turn++) await new Promise((resolve) => setImmediate(resolve));
}

beforeEach(() => {
  mock.timers.enable({ apis: ["setTimeout"] });
  FakeRecorder.supported = ["audio/webm;codecs=opus", "video/mp4"];
  Object.assign(globalThis, { MediaRecorder: FakeRecorder, MediaStream: class {} });
});

afterEach(() => mock.timers.reset());

test("all that was recorded reaches the agent in order, the recorder's last bytes too", async () => {
  const { recorder, made } = recording();
  const agent = new Agent();
  const preConnect = new PreConnect(made);
  recorder.deliver("one ");
  recorder.deliver("two ");
  const sending = preConnect.send(agent.open);
  await settled();
  assert.equal(agent.received, "one two ");
  recorder.held = "three";
  preConnect.listenedTo();
  mock.timers.tick(OVERLAP);
  await sending;
  assert.equal(agent.received, "one two three");
  assert.equal(agent.closed, 1);
  assert.equal(preConnect.stage, "sent");
});

test("it records on for the overlap after the notice, and no longer", async () => {
  const { recorder, made } = recording();
  const preConnect = new PreConnect(made);
  const sending = preConnect.send(new Agent().open);
  preConnect.listenedTo();
  mock.timers.tick(OVERLAP - 1);
  assert.equal(recorder.state, "recording");
  preConnect.listenedTo();
  mock.timers.tick(1);
  assert.equal(recorder.state, "inactive", "a second notice does not begin it anew");
  await sending;
});

test("a notice from before the agent was seen counts from when it was", async () => {
  const { recorder, made } = recording();
  const preConnect = new PreConnect(made);
  preConnect.listenedTo();
  mock.timers.tick(OVERLAP + 1);
  assert.equal(recorder.state, "recording");
  const sending = preConnect.send(new Agent().open);
  mock.timers.tick(OVERLAP);
  await sending;
  assert.equal(recorder.state, "inactive");
});

test("a notice that never comes does not make it record for ever", async () => {
  const { recorder, made } = recording();
  const agent = new Agent();
  const preConnect = new PreConnect(made);
  const sending = preConnect.send(agent.open);
  mock.timers.tick(LONGEST_OVERLAP);
  await sending;
  assert.equal(recorder.state, "inactive");
  assert.equal(agent.closed, 1);
});

test("without an agent in time nothing is sent, then or later", async () => {
  const { recorder, made } = recording();
  const stages: Stage[] = [];
  const agent = new Agent();
  const preConnect = new PreConnect(made, (stage) => stages.push(stage));
  recorder.deliver("a secret");
  await settled();
  assert.ok(preConnect.underWay);
  mock.timers.tick(PATIENCE);
  await settled();
  assert.equal(recorder.state, "inactive");
  assert.ok(!preConnect.underWay, "no agent is told to wait for it");
  await preConnect.send(agent.open);
  assert.deepEqual([agent.received, agent.closed], ["", 0], "no stream is opened");
  assert.deepEqual(stages, ["discarded"]);
});

test("the first agent gets it, and no other", async () => {
  const { made } = recording();
  const [first, second] = [new Agent(), new Agent()];
  const preConnect = new PreConnect(made);
  const sending = preConnect.send(first.open);
  await preConnect.send(second.open);
  preConnect.listenedTo();
  mock.timers.tick(OVERLAP);
  await sending;
  assert.deepEqual([first.closed, second.closed], [1, 0]);
});

test("a call that ends while it is sent leaves a stream that is closed", async () => {
  const { recorder, made } = recording();
  const agent = new Agent();
  const stages: Stage[] = [];
  const preConnect = new PreConnect(made, (stage) => stages.push(stage));
  const sending = preConnect.send(agent.open);
  preConnect.discard();
  await sending;
  preConnect.discard();
  assert.equal(agent.closed, 1);
  assert.equal(recorder.state, "inactive");
  assert.deepEqual(stages, ["discarded"]);
});

test("a connection that breaks ends the recording, and the call knows nothing of it", async () => {
  const { recorder, made } = recording();
  const agent = new Agent();
  agent.broken = true;
  const preConnect = new PreConnect(made);
  recorder.deliver("one");
  await preConnect.send(agent.open);
  assert.equal(preConnect.stage, "discarded");
  assert.equal(recorder.state, "inactive");
  assert.equal(agent.closed, 1);
});

test("a browser's format is taken, or there is no recording", () => {
  FakeRecorder.supported = ["video/mp4"];
  assert.equal(recording().made.mimeType, "video/mp4");
  FakeRecorder.supported = [];
  assert.equal(record({} as MediaStreamTrack), undefined);
  Object.assign(globalThis, { MediaRecorder: undefined });
  assert.equal(record({} as MediaStreamTrack), undefined);
});
