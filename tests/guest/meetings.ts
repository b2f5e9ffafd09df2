/** Places where guests wait for each other: `ask meet PLACE` in their scenarios. */
import type { Guest } from './virtual-machine.ts';

export class Meetings {
  readonly #waiting = new Map<string, Guest[]>();
  #guests: number;

  /** @param guests that must all come to a place before any of them goes on */
  constructor(guests: number) {
    this.#guests = guests;
  }

  arrive(place: string, guest: Guest): void {
    const waiting = this.#waiting.get(place) ?? [];
    waiting.push(guest);
    this.#waiting.set(place, waiting);
    this.#look();
  }

  /** A guest has ended, so that the others wait for it no longer. */
  leave(): void {
    this.#guests--;
    this.#look();
  }

  #look(): void {
    for (const [place, waiting] of this.#waiting) {
      if (waiting.length < this.#guests) continue;
      this.#waiting.delete(place);
      for (const guest of waiting) guest.send('met');
    }
  }
}
