/** What can go wrong for somebody who only wants to talk, in words that say what to do. */

import { ConnectionError, ConnectionErrorReason, DisconnectReason, MediaDeviceFailure } from "livekit-client";
import { type Agents, BackendError } from "./backend";

export interface Problem {
  /** Stable name, for tests and bug reports. */
  readonly kind: string;
  readonly title: string;
  readonly advice: string;
}

const TERMINAL = "The terminal that runs greenroom dev says more.";

export function microphoneProblem(error: unknown): Problem {
  if (!window.isSecureContext) {
    return {
      kind: "microphone-insecure",
      title: "The browser gives this page no microphone.",
      advice: "Browsers allow it only on https or on this computer itself: open the page as http://127.0.0.1. You can type meanwhile.",
    };
  }
  switch (MediaDeviceFailure.getFailure(error)) {
    case MediaDeviceFailure.PermissionDenied:
      return {
        kind: "microphone-denied",
        title: "The microphone is not allowed.",
        advice: "Allow it beside the page's address, then press the microphone button. You can type meanwhile.",
      };
    case MediaDeviceFailure.NotFound:
      return {
        kind: "microphone-missing",
        title: "No microphone was found.",
        advice: "Plug one in, then press the microphone button. You can type meanwhile.",
      };
    case MediaDeviceFailure.DeviceInUse:
      return {
        kind: "microphone-busy",
        title: "Another program holds the microphone.",
        advice: "Close it there, then press the microphone button. You can type meanwhile.",
      };
    default:
      return {
        kind: "microphone-failed",
        title: "The microphone could not be started.",
        advice: `${messageOf(error)} You can type meanwhile.`,
      };
  }
}

export function connectionProblem(error: unknown, url: string): Problem {
  if (error instanceof BackendError) {
    return error.status === 0
      ? {
          kind: "console-unreachable",
          title: "greenroom dev does not answer.",
          advice: "It serves this page: start it again in its terminal, then press Talk.",
        }
      : { kind: "token-refused", title: "No way into a room.", advice: `${error.message} ${TERMINAL}` };
  }
  if (error instanceof ConnectionError && error.reason === ConnectionErrorReason.NotAllowed) {
    return {
      kind: "server-refused",
      title: "The media server refused this page.",
      advice: `The API key and secret are not the ones that ${url} knows, or the clocks differ.`,
    };
  }
  return {
    kind: "server-unreachable",
    title: "The media server does not answer.",
    advice: `No connection to ${url}. ${TERMINAL}`,
  };
}

export function disconnectProblem(reason: DisconnectReason | undefined): Problem | undefined {
  switch (reason) {
    case undefined:
    case DisconnectReason.UNKNOWN_REASON:
      return {
        kind: "connection-lost",
        title: "The connection was lost.",
        advice: "The media server stopped or cannot be reached. Press Talk to try again.",
      };
    case DisconnectReason.SERVER_SHUTDOWN:
      return { kind: "server-stopped", title: "The media server was stopped.", advice: TERMINAL };
    case DisconnectReason.DUPLICATE_IDENTITY:
      return {
        kind: "joined-elsewhere",
        title: "The call was taken over.",
        advice: "Another page joined the room as the same person.",
      };
    default:
      return undefined;
  }
}

/** Nobody came within `seconds`: say why that might be, from what the console knows of the worker. */
export function absenceProblem(agents: Agents | undefined, seconds: number): Problem {
  const title = `No agent came within ${seconds} seconds.`;
  const advice = (() => {
    switch (agents?.worker.state) {
      case undefined:
        return "greenroom dev does not answer any more: look at its terminal.";
      case "starting":
        return "The worker is still starting. It takes the next call: hang up and press Talk again when the terminal says that it is ready.";
      case "failed":
        return `The worker is not running. ${agents?.worker.detail || TERMINAL}`;
      case "ready":
        return "The worker is running, so the call's own process may have failed as it started, or all its places are taken. " + TERMINAL;
    }
  })();
  return { kind: "agent-absent", title, advice };
}

export function messageOf(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  return /[.!?]$/.test(text) ? text : `${text}.`;
}
