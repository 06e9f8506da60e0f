// snake_case of the table to camelCase of TypeScript and back: in types, and at run time along a row's schema, so
// that the keys of records (an environment's variables) are left alone.
import * as z from "zod";

export type CamelKey<Key extends string> = Key extends `${infer Head}_${infer Tail}`
  ? `${Head}${Capitalize<CamelKey<Tail>>}`
  : Key;

/** The same data with camelCase keys. A record with arbitrary keys keeps them. */
export type Camel<T> = T extends readonly (infer Item)[]
  ? Camel<Item>[]
  : T extends object
    ? string extends keyof T
      ? T
      : { [Key in keyof T as Key extends string ? CamelKey<Key> : Key]: Camel<T[Key]> }
    : T;

export function camelKey(key: string): string {
  return key.replace(/_([a-z0-9])/g, (_, letter: string) => letter.toUpperCase());
}

type Rename = (schemaKeys: readonly string[]) => ReadonlyMap<string, string>;

const toSnakeNames: Rename = (keys) => new Map(keys.map((key) => [camelKey(key), key]));
const toCamelNames: Rename = (keys) => new Map(keys.map((key) => [key, camelKey(key)]));

/**
 * What a caller gave, with the keys of the table. Keys that the schema does not have stay as they are, so that
 * checking can name them; a snake_case key is one of those.
 */
export function toSnake(schema: z.core.SomeType, value: unknown): unknown {
  return mapKeys(schema, value, toSnakeNames);
}

/** What the daemon answered, with camelCase keys. Keys that the schema does not know are turned too. */
export function toCamel(schema: z.core.SomeType, value: unknown): unknown {
  return mapKeys(schema, value, toCamelNames);
}

function mapKeys(schema: z.core.SomeType, value: unknown, rename: Rename): unknown {
  if (schema instanceof z.ZodOptional || schema instanceof z.ZodNullable || schema instanceof z.ZodDefault) {
    return mapKeys(schema.unwrap(), value, rename);
  }
  if (schema instanceof z.ZodArray) {
    return Array.isArray(value) ? value.map((item) => mapKeys(schema.element, item, rename)) : value;
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) return value;
  if (schema instanceof z.ZodUnion) {
    const option = schema.options.find((one) => z.safeParse(one, value).success) ?? schema.options[0];
    return option === undefined ? value : mapKeys(option, value, rename);
  }
  if (!(schema instanceof z.ZodObject)) return value;
  const shape: Record<string, z.core.SomeType> = schema.shape;
  const names = rename(Object.keys(shape));
  const snakes = Object.keys(shape);
  const entries = Object.entries(value).map(([key, inner]): [string, unknown] => {
    const renamed = names.get(key);
    if (renamed !== undefined) {
      const field = shape[renamed] ?? shape[key];
      return [renamed, field ? mapKeys(field, inner, rename) : inner];
    }
    if (rename === toCamelNames) return [camelKey(key), inner];
    // A caller's snake_case spelling of a known key is not another way to say it.
    return [snakes.includes(key) ? `${key} (write ${camelKey(key)})` : key, inner];
  });
  return Object.fromEntries(entries);
}
