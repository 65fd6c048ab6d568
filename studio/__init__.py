"""The studio: a page in the browser that labels photographs, has generators made, and paints new layouts live.

`semia studio` starts it. The server is `semia.studio.app`, the page `page/`: plain ES modules, served as they are.
"""
