// What the theme leaves out for those who read without a mouse or a screen.
document.addEventListener("DOMContentLoaded", () => {
  for (const title of document.querySelectorAll(".caption[role=heading]")) title.ariaLevel = "2";
  for (const side of document.querySelectorAll("aside")) side.ariaLabel = side.className;
  for (const part of document.querySelectorAll("pre, .table-wrapper"))
    if (part.scrollWidth > part.clientWidth) part.tabIndex = 0;
});
