import assert from "node:assert/strict";
import { test } from "node:test";
import { agentState } from "../src/protocol";
import { type Line, Transcript } from "../src/transcript";

function recording(): { transcript: Transcript; seen: Line[] } {
  const seen: Line[] = [];
  return { transcript: new Transcript((line) => seen.push(line)), seen };
}

test("the agent's deltas grow one line", () => {
  const { transcript, seen } = recording();
  const stream = transcript.open("s1", "agent");
  stream.append("It is ");
  stream.append("noon.");
  stream.close({ final: true });
  assert.deepEqual(
    seen.map((line) => [line.text, line.final]),
    [["It is", false], ["It is noon.", false], ["It is noon.", true]],
  );
  assert.equal(transcript.lines.length, 1);
});

test("a new stream of the user's segment replaces the text", () => {
  const { transcript } = recording();
  const interim = transcript.open("u1", "user");
  interim.append("What time");
  interim.close({ final: false });
  assert.equal(transcript.lines[0]?.final, false);
  const final = transcript.open("u1", "user");
  final.append("What time is it?");
  final.close({ final: true });
  assert.deepEqual(transcript.lines, [
    { segment: "user/u1", speaker: "user", text: "What time is it?", final: true, interrupted: false },
  ]);
});

test("a late piece of an older stream changes nothing", () => {
  const { transcript, seen } = recording();
  const older = transcript.open("u1", "user");
  const newer = transcript.open("u1", "user");
  newer.append("What time is it?");
  newer.close({ final: true });
  const before = seen.length;
  older.append("What");
  older.close({ final: false });
  assert.equal(seen.length, before);
  assert.equal(transcript.lines[0]?.text, "What time is it?");
});

test("both sides may use the same segment id", () => {
  const { transcript } = recording();
  transcript.add("1", "user", "Hello.", { final: true });
  transcript.add("1", "agent", "Hello to you.", { final: true });
  assert.deepEqual(transcript.lines.map((line) => line.speaker), ["user", "agent"]);
});

test("an utterance without words is no line", () => {
  const { transcript, seen } = recording();
  const interim = transcript.open("u1", "user");
  interim.append("Hm");
  interim.close({ final: false });
  transcript.open("u1", "user").close({ final: true });
  assert.deepEqual(transcript.lines, []);
  assert.deepEqual(seen.at(-1), { segment: "user/u1", speaker: "user", text: "", final: true, interrupted: false });
});

test("a correction of what the agent said tells that it was cut off", () => {
  const { transcript } = recording();
  const spoken = transcript.open("s1", "agent");
  spoken.append("It is ten past four, and");
  spoken.close({ final: false });
  const heard = transcript.open("s1", "agent");
  heard.append("It is ten past");
  heard.close({ final: true, interrupted: true });
  assert.deepEqual(transcript.lines, [
    { segment: "agent/s1", speaker: "agent", text: "It is ten past", final: true, interrupted: true },
  ]);
});

test("unknown agent states are read as getting ready", () => {
  assert.equal(agentState("speaking"), "speaking");
  assert.equal(agentState(undefined), "initializing");
  assert.equal(agentState("gone"), "initializing");
});
