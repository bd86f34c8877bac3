/** How loud a track is, for the eye: 0 for silence, 1 for loud speech. */

import { createAudioAnalyser, type LocalAudioTrack, type RemoteAudioTrack } from "livekit-client";

const QUIETEST_DB = -60;
const LOUDEST_DB = -12;

export class Level {
  #analyser: ReturnType<typeof createAudioAnalyser>;
  #samples: Float32Array<ArrayBuffer>;
  #shown = 0;

  constructor(track: LocalAudioTrack | RemoteAudioTrack) {
    this.#analyser = createAudioAnalyser(track, { fftSize: 1024 });
    this.#samples = new Float32Array(this.#analyser.analyser.fftSize);
  }

  /** Quick to rise, slow to fall, so that a frame's worth of silence between words does not flicker. */
  read(): number {
    this.#analyser.analyser.getFloatTimeDomainData(this.#samples);
    let sum = 0;
    for (const sample of this.#samples) sum += sample * sample;
    const db = 10 * Math.log10(sum / this.#samples.length + 1e-12);
    const level = Math.min(1, Math.max(0, (db - QUIETEST_DB) / (LOUDEST_DB - QUIETEST_DB)));
    this.#shown = level > this.#shown ? level : this.#shown * 0.88 + level * 0.12;
    return this.#shown;
  }

  close(): void {
    void this.#analyser.cleanup();
  }
}
