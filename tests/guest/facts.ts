/**
 * Facts that a guest prints, one a line, without judging them:
 *
 *     @ SUBJECT KEY VALUE...
 *
 * The same key again adds a line to its value. Everything else that a guest prints is kept as its
 * words, for people.
 */
export class Facts {
  readonly #values = new Map<string, string>();
  readonly #words: string[] = [];

  /** Those of several guests. Null: a guest that gave none. */
  static together(all: readonly (Facts | null)[]): Facts {
    const facts = new Facts();
    for (const each of all) if (each !== null) for (const [name, value] of each.#values) facts.#values.set(name, value);
    return facts;
  }

  /** Take one line, without its end. Returns the fact in it, or null for words. */
  add(line: string): { readonly subject: string; readonly key: string; readonly value: string } | null {
    const match = /^@ (\S+) (\S+)(?: (.*))?$/.exec(line);
    if (match === null) {
      if (line.trim() !== '') this.#words.push(line);
      return null;
    }
    const [, subject, key, value = ''] = match as unknown as [string, string, string, string | undefined];
    const name = `${subject} ${key}`;
    const before = this.#values.get(name);
    this.#values.set(name, before === undefined ? value : `${before}\n${value}`);
    return { subject, key, value };
  }

  /**
   * The value of a fact. A missing fact is an error: a check must not pass because the guest
   * printed nothing.
   */
  get(subject: string, key: string): string {
    const value = this.#values.get(`${subject} ${key}`);
    if (value === undefined) throw new Error(`the guest printed no ${key} of ${subject}`);
    return value;
  }

  has(subject: string, key: string): boolean {
    return this.#values.has(`${subject} ${key}`);
  }

  /** The keys that begin with `prefix`, in the order of printing. */
  keys(subject: string, prefix: string): string[] {
    const start = `${subject} ${prefix}`;
    return [...this.#values.keys()].filter((name) => name.startsWith(start)).map((name) => name.slice(subject.length + 1));
  }

  /** All of them: subject, key, value. */
  *[Symbol.iterator](): IterableIterator<readonly [subject: string, key: string, value: string]> {
    for (const [name, value] of this.#values) {
      const space = name.indexOf(' ');
      yield [name.slice(0, space), name.slice(space + 1), value];
    }
  }

  /** The guest's output without its facts. */
  get words(): string {
    return this.#words.join('\n');
  }
}
