/** One condition on the facts that a guest printed. */
import type { Facts } from './facts.ts';

export interface Check {
  readonly title: string;
  /** Throws an Error that says what is wrong. */
  readonly run: (facts: Facts) => void;
}

/** Keys, each with the value it must have. */
export type Expected = Readonly<Record<string, string>>;

/** A check that facts of `subject` have exactly these values. */
export function tells(title: string, subject: string, expected: Expected): Check {
  return {
    title,
    run(facts) {
      const wrong = Object.entries(expected)
        .filter(([key, value]) => facts.get(subject, key) !== value)
        .map(([key, value]) => `${key} is '${facts.get(subject, key)}', should be '${value}'`);
      if (wrong.length > 0) throw new Error(wrong.join('; '));
    },
  };
}

/** A check of a value that the host knows by itself. */
export function mustBe(title: string, is: unknown, should: unknown): Check {
  return {
    title,
    run() {
      if (is !== should) throw new Error(`it is ${is}, should be ${should}`);
    },
  };
}

/**
 * A check that `subject` and `like` have the same values, and some, under every key with `prefix`.
 *
 * @param normalize takes out of a value what may differ (addresses)
 * @param except keys that differ for a reason, which stands where they are listed
 */
export function sameAs(
  title: string,
  subject: string,
  like: string,
  prefix: string,
  { normalize = (value) => value, except = {} }: { normalize?: (value: string, key: string) => string; except?: Expected } = {},
): Check {
  return {
    title,
    run(facts) {
      const keys = [...new Set([...facts.keys(like, prefix), ...facts.keys(subject, prefix)])];
      if (keys.length === 0) throw new Error(`there is no fact of ${like} under ${prefix}`);
      const wrong: string[] = [];
      for (const key of keys) {
        const told = normalize(facts.get(subject, key), key);
        const should = except[key] ?? normalize(facts.get(like, key), key);
        if (told !== should) wrong.push(`${key} is ${quote(told)}, should be ${quote(should)}`);
      }
      if (wrong.length > 0) throw new Error(wrong.join('; '));
    },
  };
}

/** The whole value when it is short enough to read, otherwise its beginning. */
function quote(value: string): string {
  return value.includes('\n') ? `\n${value.replace(/^/gm, '      ')}\n     ` : `'${value}'`;
}
