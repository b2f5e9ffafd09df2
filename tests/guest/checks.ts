/** One thing that must hold of what a guest told. */
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

/** A check of what the host knows by itself. */
export function mustBe(title: string, is: unknown, should: unknown): Check {
  return {
    title,
    run() {
      if (is !== should) throw new Error(`it is ${is}, should be ${should}`);
    },
  };
}

/**
 * A check that `subject` and `like` told the same under every key with `prefix`, and some.
 *
 * @param normalize what may differ (addresses), taken out of a value
 * @param except    keys that differ for a reason that is written down where they are listed
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
      if (keys.length === 0) throw new Error(`nothing was told of ${like} under ${prefix}`);
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

/** Long values by their first differing lines only would need both; short enough to read is what people want. */
function quote(value: string): string {
  return value.includes('\n') ? `\n${value.replace(/^/gm, '      ')}\n     ` : `'${value}'`;
}
