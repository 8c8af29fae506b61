"use strict";
// Pages are whole without this. It renews the part called "live" as time goes by, and leaves alone
// what its reader has opened, chosen, written or is about to.
(() => {
  const seconds = Number(document.body.dataset.pollSeconds);
  const live = () => document.getElementById("live");
  let etag = null;

  htmx.registerExtension("reader", {
    htmx_before_morph_attr(element, detail) {
      const name = detail.attrName;
      if (name === "open" && element.tagName === "DETAILS") return false;
      if ((name === "checked" || name === "value") && /^(INPUT|SELECT|OPTION|TEXTAREA)$/.test(element.tagName)) return false;
      return true;
    },
  });

  const isBusy = () => {
    const active = document.activeElement;
    return active !== null && live()?.contains(active) && /^(INPUT|SELECT|TEXTAREA)$/.test(active.tagName) && active.type !== "checkbox";
  };

  document.addEventListener("htmx:config:request", (event) => {
    const { ctx } = event.detail;
    if (ctx.sourceElement.id === "live" && etag) ctx.request.headers["If-None-Match"] = etag;
  });
  document.addEventListener("htmx:before:response", (event) => {
    const { ctx } = event.detail;
    if (ctx.sourceElement.id !== "live") return;
    if (ctx.response.raw.redirected) {
      // The session is over: the page of signing in belongs to the whole window.
      event.preventDefault();
      location.reload();
    } else if (ctx.response.status === 200) {
      etag = ctx.response.headers.get("ETag");
    } else if (ctx.response.status !== 304) {
      event.preventDefault(); // a page that is out of date says more than an error in its place
    }
  });

  const words = (at, form) => {
    const gone = (Date.now() - skew - Date.parse(at)) / 1000;
    const size = Math.abs(gone);
    const [unit, by] = size >= 172800 ? ["d", 86400] : size >= 7200 ? ["h", 3600] : size >= 120 ? ["min", 60] : ["s", 1];
    const text = `${Math.round(size / by)} ${unit}`;
    if (form === "since") return text;
    return gone < -0.5 ? `in ${text}` : `${text} ago`;
  };
  // The server's clock, not this machine's, says what is past.
  const served = document.querySelector("meta[name='served-at']");
  const skew = served ? Date.now() - Date.parse(served.content) : 0;
  const tell = () => {
    for (const time of document.querySelectorAll("time[datetime]")) {
      if (time.dataset.form === "exact") continue;
      const text = words(time.dateTime, time.dataset.form);
      if (time.textContent !== text) time.textContent = text;
    }
  };
  if (served) setInterval(() => { if (!document.hidden) tell(); }, 1000);

  if (seconds && live()) {
    setInterval(() => {
      if (!document.hidden && !isBusy()) htmx.trigger(live(), "poll");
    }, seconds * 1000);
  }

  // An address says only what was asked for.
  document.addEventListener("submit", (event) => {
    if (event.target.method !== "get") return;
    for (const field of event.target.elements) {
      if (field.name && !field.value && field.tagName !== "BUTTON") field.disabled = true;
    }
    setTimeout(() => { for (const field of event.target.elements) field.disabled = false; });
  });
})();
