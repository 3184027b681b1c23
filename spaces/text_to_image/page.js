() => {
  // what changes below the sentence is read out by screen readers
  document.querySelector("#status")?.setAttribute("aria-live", "polite");
  document.querySelector("#dark")?.setAttribute("aria-label", "Light or dark");
}
