// Who is using the page: the token from the link's fragment or the form, kept in sessionStorage.
//
// sessionStorage and not localStorage: it survives a reload (so an upload continues by itself) but belongs to this
// tab alone and is gone with it, so a token does not lie around on a shared machine. A cookie would be sent by
// itself, and need protection against forged requests.

const KEY = "cosygate.token";

/** The claims of a JWT, unverified: they only name things on this page, the server decides what is allowed. */
export function claims(token) {
  try {
    const part = token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/");
    return JSON.parse(new TextDecoder().decode(Uint8Array.from(atob(part), (c) => c.charCodeAt(0))));
  } catch {
    return {};
  }
}

/** The key under which this browser keeps the unfinished uploads of a token's owner. */
export function ownerOf(token) {
  const { sub = "", tenant = "default" } = claims(token);
  return sub ? `${tenant}/${sub}` : "key";
}

export class SignIn extends EventTarget {
  token = "";

  /** `unsaved()`: whether changing the caller would lose something. */
  constructor({ confirm, unsaved }) {
    super();
    Object.assign(this, { confirm, unsaved });
    this.screen = document.getElementById("signin");
    this.field = document.getElementById("signin-token");
    this.error = document.getElementById("signin-error");
    document.getElementById("signin-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#enter(this.field.value.trim());
    });
    document.getElementById("signout").addEventListener("click", () => this.dispatchEvent(new Event("leaving")));
    addEventListener("hashchange", () => this.#fromLink());
  }

  /** Takes the token out of the address bar at once, or the one that this tab has, or asks. */
  async start() {
    if (await this.#fromLink()) return;
    const kept = sessionStorage.getItem(KEY);
    if (kept) this.#enter(kept);
    else this.ask();
  }

  /** Shows the form, with the reason when the server refused the token. */
  ask(problem) {
    this.token = "";
    sessionStorage.removeItem(KEY);
    const words = { token_expired: "Your token has expired. Paste a new one." };
    this.error.textContent = problem ? (words[problem.code] ?? `${problem.title}. ${problem.detail}`) : "";
    this.screen.hidden = false;
    document.getElementById("app").hidden = true;
    document.getElementById("skip").hidden = true;
    this.field.value = "";
    this.field.focus();
  }

  async #fromLink() {
    const match = location.hash.match(/^#(?:.*&)?token=([^&]+)/);
    if (!match) return false;
    history.replaceState(null, "", location.pathname + location.search);
    const token = decodeURIComponent(match[1]);
    const before = this.token || sessionStorage.getItem(KEY);
    if (before && ownerOf(before) !== ownerOf(token)) {
      // A link from elsewhere must not silently make this tab somebody else's.
      const change = await this.confirm({
        title: `Sign in as ${claims(token).sub ?? "another caller"}?`,
        text: `This tab is signed in as ${claims(before).sub ?? "someone else"}.${this.unsaved() ? " Changes that are not saved are lost." : ""}`,
        yes: "Change", no: "Stay",
      });
      if (!change) {
        if (!this.token) this.#enter(before);
        return true;
      }
    }
    this.#enter(token);
    return true;
  }

  #enter(token) {
    // A header carries visible ASCII only; anything else can be no token, and fetch would throw on it.
    if (!/^[\x21-\x7e]+$/.test(token)) {
      this.ask({ title: "That is no token", detail: "It is one line of letters and digits with dots in between." });
      return;
    }
    this.token = token;
    sessionStorage.setItem(KEY, token);
    this.field.value = "";
    this.screen.hidden = true;
    document.getElementById("app").hidden = false;
    document.getElementById("skip").hidden = false;
    const name = claims(token).sub ?? "";
    const who = document.getElementById("who");
    who.textContent = name;
    who.title = name ? `Signed in as ${name}` : "";
    this.dispatchEvent(new Event("entered"));
  }
}
